// Package steward keeps the log of a node writable as far as that is safe. It
// looks, asks the rule book (dyad/cluster/quorum), makes the answer durable, does
// what it says, and looks again. What it does is handed in as deeds; the package
// knows neither etcd nor a witness.
//
// Everything it remembers between two looks is about time: since when the peer
// has been silent, the store has refused, the routers have stayed up. A restart
// forgets that, which is why nothing that rests on "without a break" survives
// one.
package steward
