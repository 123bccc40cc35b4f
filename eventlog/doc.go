// Package eventlog says what an event is: the wire names, the payloads, the
// envelope and its hash chain, the stored form, and the [Log] that keeps them.
//
// The package is pure: it opens nothing, reads no clock and draws no random
// number. Identifiers and times come in from the edge. The implementations of
// [Log] live in the packages below it (memlog, etcdlog); the facts that a node
// records while no log can be written live in [dyad/eventlog/journal].
//
// Two classes of event exist. Intents change what the cluster should do; they
// need one total order and therefore a writable log. Facts tell what one node
// saw and did; they are written to that node's journal at once and are copied
// into the log when it can be written.
package eventlog
