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
	// Authority is the one that decides now.
	Authority quorum.Authority
	// Routers: this node has routers, and all of them hear it.
	Routers bool
	// Learner: the peer's new member has everything and has no vote yet.
	Learner bool
}

// watch turns readings into durations.
type watch struct {
	silent   time.Time // since when the peer has not been heard; zero while it is
	refusing time.Time // since when the store has refused; zero while it does not
	// proven is the epoch at which the pair could write since this start.
	proven quorum.Record
	// broken: the routers were lost since the peer fell silent.
	broken bool
	fenced bool
}

// see fills in everything that depends on time.
func (w *watch) see(now time.Time, r quorum.Record, in Reading) quorum.Sight {
	s := quorum.Sight{Log: in.Log, Peer: in.Peer, Learner: in.Learner, Authority: in.Authority}
	switch {
	case in.Heard:
		w.silent, w.broken, w.fenced = time.Time{}, false, false
	case w.silent.IsZero():
		w.silent = now
	}
	if !in.Heard {
		// At least a nanosecond: 0 means heard.
		s.Peer.Silent = max(now.Sub(w.silent), 1)
		w.broken = w.broken || !in.Routers
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
	if in.Log.Writable && r.Mode == quorum.Pair && r.Step == "" {
		w.proven = r
	}
	s.Proven = w.proven == r && r.Mode == quorum.Pair
	s.Steady = s.Proven
	if in.Authority == quorum.ByTor {
		s.Steady = s.Steady && !w.broken
	}
	s.Fenced = w.fenced
	return s
}
