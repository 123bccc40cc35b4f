// Package pulse is the heartbeat between the two nodes as pure state machines:
// the time and what arrived go in, events and frames to send come out. Nothing
// here opens a socket or reads a clock; dyad/failover/beat does that.
//
//   - [Codec] seals and opens heartbeats: authenticated, versioned, bound to
//     sender and receiver, and worthless when recorded and played again.
//   - [Detector] tells from them, path by path, whether the other node is heard.
//   - [Taker] asks the other node's kernel on the wire when it falls silent, and
//     holds its next hops meanwhile.
//
// Times are durations since an arbitrary start of a clock that never goes back.
// After construction nothing allocates, so that the process which runs them can
// do without garbage collection.
package pulse
