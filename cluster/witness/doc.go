// Package witness reaches the place where a cluster's claim lies: a witness
// server (dyad/cluster/witness/server), a file that both nodes can lock, or a
// key in another etcd. Each is a quorum.Register, and all of them pass the suite
// in dyad/cluster/witness/registertest.
//
// A register gives the log to one of two nodes that no longer hear each other.
// It is asked a few times a day and must be right each time, so every question
// is bounded, opens its own connection, and leaves nothing behind that could go
// stale.
package witness
