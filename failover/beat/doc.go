// Package beat is the pulse as a process: it sends and hears the heartbeats of
// dyad/failover/pulse on real sockets, asks the other node's kernel by ARP and
// neighbor discovery, and takes over its next hops.
//
// [ChildMain] is the process (the hidden command "dyad pulse"): one thread of
// real-time priority that waits in ppoll, with locked memory and without garbage
// collection. [Supervisor] is the agent's end: it starts the process, starts it
// again when it dies, tells it what to do ([Setup], [Feed]) and turns what it
// reports into inputs of the failover machine.
//
// What must be fast happens in the process: when the other node falls silent,
// it sends the frames that move the next hop itself, from what it was given in
// advance. It acts for an agent that lives: an agent that does not feed it for
// [FeedBound] is called hung in every heartbeat, and nothing is taken for it;
// when the agent has died, the process says so in its last words and ends.
package beat
