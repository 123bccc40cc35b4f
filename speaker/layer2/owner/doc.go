// Package owner decides, for one segment, what a node says of the service
// addresses on it: when it announces one, answers for it, asks whether somebody
// has it, and gives it up. It is pure: the time and what was heard go in, frames
// to send and what has changed come out.
//
// Three rules keep one owner for an address:
//   - Who is only the spare keeps what it holds until it hears the other node's
//     claim, so that a planned move has no gap, and takes what nobody answers
//     for.
//   - Who is not firm gives way to the other node's claim. Of two nodes that hold
//     each other for dead one is firm: as soon as they hear each other there is
//     one owner again.
//   - A stranger's claim is told, and never fought: the own address is defended
//     once in [DefendInterval] (RFC 5227 section 2.4), and an address that a
//     stranger has already is not announced.
package owner
