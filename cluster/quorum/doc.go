// Package quorum decides who may write the log of two nodes, and proves that it
// is never both. It is pure: it has no clock, no network and no goroutine.
//
// A pair commits only with both nodes, so a survivor that goes on alone changes
// the set of writers. It may do so only as a voter of the pair at this epoch, and
// with the word of one authority that gives it to one of the two: a witness, a
// fence, the router, or an operator. Every change of the set of writers raises
// the epoch, which every append compares.
package quorum
