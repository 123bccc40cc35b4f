// Package chaos is what a failover drill is, without the machinery to run one:
// scenarios, the measurement of probe samples, and the report. It is pure: it
// reads no clock and does no I/O, so every figure a drill prints can be
// computed again from its samples.
package chaos
