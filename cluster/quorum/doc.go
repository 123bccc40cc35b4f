// Package quorum decides who may write the log of two nodes. It is pure: it has
// no clock, no network and no goroutine.
//
// A pair commits only with both nodes, so a survivor that goes on alone changes
// the set of writers. It may do so only as a voter of the pair at this epoch, and
// with the word of one authority that gives it to one of the two: a witness, a
// fence, the router, or an operator. Every change of the set of writers raises
// the epoch, which every append compares.
//
// [Next] is the whole rule book: from what is on disk ([Record]) and what is seen
// now ([Sight]) it says what must be on disk next, what to do, and what to tell
// the operator ([Move]). It remembers nothing itself, so a crash at any point is
// an ordinary input: the driver boots, looks, and asks again. The driver lives in
// dyad/cluster/node, the deeds in dyad/cluster/etcdnode.
//
// The tests of this package walk more than a million states that two nodes, a
// witness, a fence, a router and an operator can reach, with crashes and cut links
// at any point. They hold that there are never two writers, that whoever writes has
// everything that was ever acknowledged, and that the two become a pair again when
// all is well again. Each guard of the rule book is taken away in turn, and the
// walk must then find the history that breaks. The conversations in testdata are
// for reading.
package quorum
