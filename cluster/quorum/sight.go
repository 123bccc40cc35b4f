package quorum

import (
	"time"

	"dyad/eventlog"
)

// Sight is everything the rules look at besides the record. It is made anew for
// each look.
type Sight struct {
	Self string
	Log  LogSight
	Peer PeerSight
	// Proven: since this start of the agent the log could be written here, at the
	// record's mode and epoch. A reboot makes it false: nobody knows what happened
	// meanwhile.
	Proven bool
	// Steady: the routers have stayed up ever since the peer fell silent, and its
	// beacon does not come through them.
	Steady bool
	// Beacon: it does, so the peer is alive. Only for words.
	Beacon  bool
	Witness WitnessSight
	// Authority is the one that is configured; an operator's word counts always.
	Authority Authority
	// Fenced: the fence read the peer back as off, since it fell silent and
	// since this start.
	Fenced bool
	Word   Word
	// Learner: the peer's new member runs here as a learner and has everything.
	Learner bool
	// Third is what is seen of a machine that only holds a vote.
	Third ThirdSight
	// Leaving: this agent is being stopped as planned.
	Leaving bool
	// External: the log lies in a store that others run. Log.Self is whether the
	// log has this node, once it was read to its end.
	External bool
	// HoldDown is how long the peer must be silent on every path.
	HoldDown time.Duration
}

// LogSight is what this node's own store says. Its epoch, mode and writers are
// those of the last epoch.started that was committed and applied here.
type LogSight struct {
	Epoch        eventlog.Epoch
	Mode         Mode
	Self, Others bool // who writes at that epoch
	// Writable: a question that needs the quorum was answered just now.
	Writable bool
	// Refusing is for how long the store has not been writable.
	Refusing time.Duration
	// Shared: another member has a vote in the store.
	Shared bool
	// Trouble is why an external store is not writable.
	Trouble string
}

// ThirdSight is what the log and the store say of a third voter.
type ThirdSight struct {
	// Named: the log names one.
	Named bool
	// Votes: a member has a vote that is no node's. Unwanted: a member, with or
	// without a vote, is neither a node's nor the one that the log names.
	Votes, Unwanted bool
	// Learning: a member has no vote yet, whosever it is.
	Learning bool
}

// PeerSight is what was last heard from the other node, over whichever path.
type PeerSight struct {
	Name string
	// Silent is for how long it has not been heard on any path; 0 while it is.
	Silent time.Duration
	// Epoch and Mode are its own; 0 if it was never heard.
	Epoch eventlog.Epoch
	Mode  Mode
}

// heard: it can be asked.
func (p PeerSight) heard() bool { return p.Silent == 0 && p.Epoch > 0 }

// alone: it says that it is the only writer.
func (p PeerSight) alone() bool { return p.Mode == Solo || p.Mode == Sole }

// WitnessSight is what the witness said at the last question.
type WitnessSight struct {
	// Configured: the cluster has a witness, and nobody goes on alone without
	// its word.
	Configured bool
	// Known: it answered since this look's question; Claim is what stands there.
	Known bool
	Claim Claim
}

// Word is an operator's: the named peer is down, and this node shall go on.
type Word struct {
	Peer string
	// Actor and Reason are for the log.
	Actor, Reason string
	// WithoutWitness: the operator vouches that the peer stays off until the
	// witness has been told.
	WithoutWitness bool
	// AcceptLoss: go on even from a store that somebody else may have gone on
	// without.
	AcceptLoss bool
}
