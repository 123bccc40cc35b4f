// Package sim plays two nodes in virtual time: the real failover machine, the
// real detector and taker of the pulse, the real projections, the real diff of
// the speaker, the real rules of who may write the log, and the real sealing of
// events, on a simulated network, clock, disk, router and witness. A seeded swarm
// of faults goes over them, and after every step what was promised must hold.
//
// One goroutine takes events from a heap; nothing reads a clock, and the same
// seed gives the same timeline, bit for bit. Heartbeats are most of the events.
// While both pulses do nothing new, the sim does not play them: it shifts their
// clocks, which is exact, because they compare times with nothing but each other
// (see [Options].PlayAll, which plays every one).
//
// Modelled, not real: memberlist (by its formula of detection), the store (what
// its promises say), BGP sessions and the router's decision, and the kernels. The
// client is not a stream of probes but a question asked after every change:
// would a packet to this address reach a node that answers it? So an outage is
// measured to the nanosecond.
package sim
