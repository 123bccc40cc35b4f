// Package drill runs a scenario on a lab: it waits for a settled state, probes,
// hits a node, and reports what the clients saw. The fault itself is a process
// of its own on the node, which heals by its own timer: a drill whose runner is
// killed leaves a healed lab.
package drill
