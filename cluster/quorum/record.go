package quorum

import "dyad/eventlog"

// Authority is who may give the log of a pair to one of its nodes.
type Authority string

// The authorities.
const (
	// ByWitness: a third party swapped its claim, which it does for one of two.
	ByWitness Authority = "witness"
	// ByFence: the other node was switched off, and read back as off.
	ByFence Authority = "fence"
	// ByTor: this node's routers stayed up since the other node fell silent on
	// every path. It is as good as the assumption that a node which reaches the
	// router reaches the other node through it.
	ByTor Authority = "tor"
	// ByOperator: a person said that the other node is down.
	ByOperator Authority = "operator"
	// BySelf: nobody else may write at this epoch, so nobody has to be asked.
	BySelf Authority = "self"
)

// Step is how far a change of the set of writers has come.
type Step string

// The steps. The zero value says that none is under way.
const (
	// Granted: the authority gave this node the log, and the store is about to
	// be started anew with this node as its only voter.
	Granted Step = "granted"
	// Pairing: the other node is about to get a vote. From here on this node
	// can't know by itself whether it still is the only writer.
	Pairing Step = "pairing"
)

// Record is what a node must know before, and without, its store. It is written
// to disk before anything is done that rests on it.
type Record struct {
	// Mode is SOLO, PAIR, SOLE, JOINING, WITNESSED, or STALE: somebody else went
	// on without this node, and what lies in its store must be set aside.
	Mode  Mode           `json:"mode"`
	Epoch eventlog.Epoch `json:"epoch"`
	Step  Step           `json:"step,omitempty"`
	// Next is the epoch that Step leads to.
	Next eventlog.Epoch `json:"next,omitempty"`
	// By is who granted; set in Granted.
	By Authority `json:"by,omitempty"`
}

// Boot is what a record means when an agent starts. begun tells whether the store
// was begun anew by the grant in it.
//
// Invariant: a grant that is not exclusive ends with the start it was given in.
// While this node was away the same authority may have given the log to the other
// one: an operator who saw this one down, a router, a fence. Where the store was
// begun anew already the grant stands: that can't be undone, and whoever looks
// sees it.
func Boot(r Record, begun bool) Record { return rules{}.boot(r, begun) }

func (u rules) boot(r Record, begun bool) Record {
	if r.Step != Granted || r.Exclusive() || begun || u.without == guardFresh {
		return r
	}
	before := Record{Mode: r.Mode, Epoch: r.Epoch}
	if newest := r.Next - 1; r.alone() && newest > r.Epoch {
		// The other node was about to get its vote, and may have it.
		before.Step, before.Next = Pairing, newest
	}
	return before
}

// Alone tells whether this node was the only writer when it last knew.
func (r Record) Alone() bool { return r.alone() }

// alone: this node was the only writer when it last knew.
func (r Record) alone() bool { return r.Mode == Solo || r.Mode == Sole }

// Writes tells whether this node is a writer, alone or with the other one.
func (r Record) Writes() bool { return r.Step != Granted && (r.alone() || r.Mode == Pair) }

// Exclusive tells whether who granted this gives the log to one node only,
// whatever happens.
func (r Record) Exclusive() bool { return r.By == ByWitness || r.By == BySelf }

// newest is the newest epoch this node may have voted in.
func (r Record) newest() eventlog.Epoch {
	if r.Step == Pairing {
		return max(r.Epoch, r.Next)
	}
	return r.Epoch
}
