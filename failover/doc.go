// Package failover decides who announces. Its [Machine] has no clock, no
// network and no goroutine: the time and what sensors saw go in, a
// [projections.View] and facts come out. Everything that takes time is a
// deadline the machine names; the caller wakes it then.
//
// Failover never waits for the log. A two-node quorum can't commit while one
// node is dead, so the machine runs on local state alone, and what it saw is
// recorded as facts afterwards.
package failover
