package steward

import (
	"time"

	"dyad/cluster/quorum"
)

// Reading is what can be sensed at one moment.
type Reading struct {
	// Log is what the store says; Refusing is filled in by the steward.
	Log quorum.LogSight
	// Peer is what was last heard; Silent is filled in by the steward.
	Peer quorum.PeerSight
	// Heard: the peer is heard on some path now.
	Heard bool
	// Boot is the peer's last start that was heard of. Another one than before
	// means that it was heard since, however short.
	Boot string
	// Authority is the one that decides now.
	Authority quorum.Authority
	// Routers: this node has routers, a session with each, and nothing says that
	// they don't hear it.
	Routers bool
	// Answered: they do, since the peer has not been heard. A session alone says
	// little: it outlives what it runs over by its hold time.
	Answered bool
	// Beacon: the peer is alive, as its answer through a router proves, though it
	// is not heard on any path between the nodes.
	Beacon bool
	// Learner: the peer's new member has everything and has no vote yet.
	Learner bool
	// Third is what is seen of a third voter.
	Third quorum.ThirdSight
	// External: the log lies in a store that others run.
	External bool
}

// answerBound is how soon after the peer fell silent a router must have answered.
// It is below every hold-down with which the routers may decide.
const answerBound = time.Second

// watch turns readings into durations.
type watch struct {
	silent   time.Time // since when the peer has not been heard; zero while it is
	boot     string    // the peer's
	refusing time.Time // since when the store has refused; zero while it does not
	// proven is the mode and epoch at which the log could be written since this
	// start.
	proven quorum.Record
	// broken: the routers were lost since the peer fell silent, or did not answer
	// in time.
	broken bool
	fenced bool
}

// see fills in everything that depends on time.
func (w *watch) see(now time.Time, r quorum.Record, in Reading) quorum.Sight {
	s := quorum.Sight{Log: in.Log, Peer: in.Peer, Learner: in.Learner, Third: in.Third, Authority: in.Authority, External: in.External}
	if in.Heard || in.Boot != w.boot {
		w.silent, w.broken, w.fenced = time.Time{}, false, false
	}
	w.boot = in.Boot
	if !in.Heard {
		if w.silent.IsZero() {
			w.silent = now
		}
		// At least a nanosecond: 0 means heard.
		s.Peer.Silent = max(now.Sub(w.silent), 1)
		w.broken = w.broken || !in.Routers || !in.Answered && s.Peer.Silent >= answerBound
	}
	switch {
	case in.Log.Writable:
		w.refusing = time.Time{}
	case w.refusing.IsZero():
		w.refusing = now
	}
	if !w.refusing.IsZero() {
		s.Log.Refusing = now.Sub(w.refusing)
	}
	at := quorum.Record{Mode: r.Mode, Epoch: r.Epoch}
	if in.Log.Writable && r.Writes() {
		w.proven = at
	}
	s.Proven, s.Steady, s.Fenced = w.proven == at, in.Answered && !w.broken && !in.Beacon, w.fenced
	s.Beacon = in.Beacon && !in.Heard
	return s
}
