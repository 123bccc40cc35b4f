// Package cluster is the agent: one loop that owns the folded state and the
// failover machine, and feeds everything else.
//
//	log ──follow──▶ State ─┐
//	                       ├─Desired─▶ reconciler ─▶ speaker, addresses
//	sensors ──▶ Machine ──▶ View
//	                └─▶ facts ─▶ journal ─▶ log
//
// The loop ([Agent]) is the only writer of State and View; everybody else reads
// snapshots. It never waits for the log, the disk or the network: followers,
// the appender of intents, the recorder of facts and the reconcilers are
// goroutines of their own, joined by bounded queues. The package knows its
// surroundings as [Parts]; cluster/node puts the real ones together.
package cluster
