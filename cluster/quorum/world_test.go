package quorum

import (
	"fmt"
	"time"

	"dyad/eventlog"
)

// The model: two nodes, their stores, a witness, and everything that can go
// wrong between any two steps. All of it is small numbers, so that a world can
// be a map's key.

const (
	maxLog    = 7
	maxWrites = 2
	maxEpoch  = 5
	holdDown  = time.Second
)

// Memberships of a store, as it knows them.
const (
	absent uint8 = iota
	alone        // this node is the only voter
	both
	learner
)

// entry is an event in the log: a write, or the start of an epoch. basis is the
// epoch it was decided at: where the log is at another one when it is applied, it
// does nothing (the append's compare).
type entry struct{ write, epoch, holder, basis uint8 } // holder: 0 both, 1 a, 2 b

type node struct {
	up, store, proven, fenced, leaving bool
	heard                              bool // the other node was heard since the word was given
	mode, step                         uint8
	epoch, next, by                    uint8
	log                                [maxLog]entry
	n, known                           uint8 // entries on disk, and known as committed
	members                            uint8
	pupil                              bool // the peer was admitted here as a learner
	do, sub                            uint8
	from, to                           mark
	heardEpoch, heardMode              uint8
}

// mark is a claim: epoch, and who holds it (0 both, 1 a, 2 b).
type mark struct{ epoch, holder uint8 }

type world struct {
	nodes  [2]node
	link   bool
	reach  [2]bool // the witness
	claim  mark
	shot   [2]bool // a fence is about to switch this node off
	acked  [maxLog]entry
	acks   uint8
	writes uint8
}

var (
	modeList = []Mode{Solo, Pair, Sole, Stale, Joining}
	stepList = []Step{"", Granted, Pairing}
	byList   = []Authority{"", ByWitness, ByFence, ByTor, ByOperator, BySelf}
	deedList = []Deed{Wait, AskWitness, AskFence, Reform, Return, Pairup, Leave, Shed, TellWitness}
)

func index[T comparable](list []T, v T) uint8 {
	for i, x := range list {
		if x == v {
			return uint8(i)
		}
	}
	panic(fmt.Sprintf("%v is not in the model", v))
}

func (n *node) record() Record {
	return Record{
		Mode: modeList[n.mode], Epoch: eventlog.Epoch(n.epoch), Step: stepList[n.step], Next: eventlog.Epoch(n.next), By: byList[n.by],
	}
}

func (n *node) save(r Record) {
	n.mode, n.step, n.by = index(modeList, r.Mode), index(stepList, r.Step), index(byList, r.By)
	n.epoch, n.next = uint8(r.Epoch), uint8(r.Next)
}

// applied folds the first entries of a log: the epoch and who writes in it.
func (v variant) applied(n *node, upTo uint8) (epoch, holder uint8) {
	for _, e := range n.log[:upTo] {
		if e.epoch > 0 && v.rules.need(guardCompare, e.basis == epoch) {
			epoch, holder = e.epoch, e.holder
		}
	}
	return epoch, holder
}

func (n *node) add(e entry) bool {
	if n.n == maxLog {
		return false
	}
	n.log[n.n], n.n = e, n.n+1
	return true
}

// prefix tells whether x's log begins with y's.
func prefix(x, y *node) bool {
	return y.n <= x.n && x.log[:y.n:y.n] != nil && sameRun(x.log[:y.n], y.log[:y.n])
}

func sameRun(a, b []entry) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// connected: the two stores are one pair, and can commit.
func (w *world) connected() bool {
	a, b := &w.nodes[0], &w.nodes[1]
	return w.link && a.store && b.store && a.members == both && b.members == both
}

// teaches: node i's store has the other one's as a learner, or as a voter that
// does not know it yet.
func (w *world) teaches(i int) bool {
	x, y := &w.nodes[i], &w.nodes[1-i]
	return w.link && x.store && y.store && y.members == learner && (x.pupil || x.members == both)
}

func (w *world) writable(i int) bool {
	n := &w.nodes[i]
	return n.store && (n.members == alone || w.connected())
}

func claimOf(m mark) Claim {
	c := Claim{Cluster: "c", Epoch: eventlog.Epoch(m.epoch), Mode: Pair}
	if m.holder > 0 {
		c.Mode, c.Holder = Sole, names[m.holder-1]
	}
	return c
}

// markOf is claimOf's way back.
func markOf(c Claim) mark {
	m := mark{epoch: uint8(c.Epoch)}
	for i, name := range names {
		if c.Holder == name {
			m.holder = uint8(i + 1)
		}
	}
	return m
}

var names = [2]string{"a", "b"}

// variant is who may decide.
type variant struct {
	authority Authority
	rules     rules
	say       bool // put what happens into words
	settling  bool // demand that worlds settle
}

func (v variant) witness() bool { return v.authority == ByWitness }

// sight is what node i sees. With word an operator has said that the other one is
// down.
func (v variant) sight(w *world, i int, word bool) Sight {
	n, peer := &w.nodes[i], &w.nodes[1-i]
	epoch, holder := v.applied(n, n.known)
	s := Sight{Self: names[i], HoldDown: holdDown, Authority: v.authority, Leaving: n.leaving}
	s.Log = LogSight{Epoch: eventlog.Epoch(epoch), Mode: Pair, Self: holder == 0 || holder == uint8(i+1), Others: holder != uint8(i+1)}
	if holder > 0 {
		s.Log.Mode = Sole
	}
	s.Log.Writable, s.Log.Shared = w.writable(i), n.members == both
	if !s.Log.Writable {
		s.Log.Refusing = holdDown
	}
	if w.hears() {
		n.heardEpoch, n.heardMode = peer.epoch, peer.mode
	} else {
		s.Peer.Silent = holdDown
	}
	s.Peer.Name, s.Peer.Epoch, s.Peer.Mode = names[1-i], eventlog.Epoch(n.heardEpoch), modeList[n.heardMode]
	// Assumed: nobody reaches the router and not the other node, unless that is down.
	s.Proven, s.Steady, s.Fenced = n.proven, v.authority == ByTor && !peer.up, n.fenced
	s.Learner = w.teaches(i) && prefix(peer, n) && peer.n == n.n
	s.Witness = WitnessSight{Configured: v.witness(), Known: v.witness() && w.reach[i], Claim: Claim{Cluster: "c"}}
	if s.Witness.Known {
		s.Witness.Claim = claimOf(w.claim)
	}
	if word {
		s.Word = Word{Peer: names[1-i]}
	}
	return s
}

// hears: the nodes hear each other.
func (w *world) hears() bool { return w.link && w.nodes[0].up && w.nodes[1].up }
