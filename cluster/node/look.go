package node

import (
	"context"
	"slices"
	"time"

	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/failover"
	"dyad/projections"
	"dyad/speaker"
)

// How the steward senses.
const (
	// probeBound is how long the quorum may take to answer one question.
	probeBound = 300 * time.Millisecond
	// quietProbe is how often it is asked while all is well.
	quietProbe = 500 * time.Millisecond
	// rosterEvery is how often the members are listed while all is well.
	rosterEvery = time.Second
)

// senses are what the steward looks with. It is used by the steward's goroutine
// alone.
type senses struct {
	p        *process
	writable bool
	probed   time.Time
	roster   etcdnode.Roster
	listed   time.Time
	// boot is the peer's start that was last heard of before the log was given to
	// this node.
	boot string
	read int // the process of the store whose disk was read instead
}

// look implements [steward.Config].Look.
func (s *senses) look(ctx context.Context) steward.Reading {
	snap := s.p.agent.Snapshot()
	var r steward.Reading
	peer := s.p.peerName(snap.State)
	report := snap.Reports[peer]
	r.Heard = peer != "" && snap.View.Nodes[peer] == projections.Alive
	r.Boot = report.Boot
	if s.p.file.get().Step != quorum.Granted {
		s.boot = r.Boot
	}
	r.Peer = quorum.PeerSight{Name: peer, Epoch: report.Epoch, Mode: quorum.Mode(report.Mode)}
	r.Authority = s.p.authority()
	sessions, answer := s.p.speaker.Sessions(), snap.Contacts[peer].Routers
	r.Routers = routersUp(sessions) && answer != failover.Unanswered
	r.Beacon, _ = s.p.agent.PeerBeacon()
	r.Answered = answer == failover.Answered || outlasts(s.p.holdDown(), sessions)
	st := snap.State
	r.Log = quorum.LogSight{
		Epoch: st.Head.Epoch, Mode: quorum.Mode(st.Mode), Self: slices.Contains(st.Writers, s.p.cfg.Node),
		Others: len(st.Writers) > 1 || len(st.Writers) == 1 && st.Writers[0] != s.p.cfg.Node,
	}
	s.probe(ctx, r.Heard)
	r.Log.Writable, r.Log.Shared, r.Learner = s.writable, s.roster.Shared, s.roster.Learner.ID != 0
	r.Third = thirdOf(st, s.roster.Members)
	return r
}

// probe asks the store's quorum something, unless it answered just now and all
// is well.
func (s *senses) probe(ctx context.Context, calm bool) {
	if s.p.store.PID() == 0 {
		s.writable, s.listed = false, time.Time{}
		return
	}
	if calm && s.writable && time.Since(s.probed) < quietProbe {
		return
	}
	s.probed = time.Now()
	pctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	s.writable = s.p.log.Reachable(pctx) == nil
	if s.writable && time.Since(s.listed) < rosterEvery && !s.roster.Waiting {
		return
	}
	if roster, err := etcdnode.ReadRoster(pctx, s.p.client, s.p.cfg.Node, s.p.id.ClientTLS()); err == nil {
		s.roster, s.listed = roster, time.Now()
		return
	}
	// Without a quorum since its start it never answers. Who votes can't change
	// meanwhile.
	if pid := s.p.store.PID(); s.listed.IsZero() && s.read != pid {
		if shared, err := etcdnode.Shared(storeDir(s.p.cfg)); err == nil {
			s.roster, s.read = etcdnode.Roster{Shared: shared}, pid
		}
	}
}

// peerIsBack tells whether the peer was heard since the log was given to this node.
func (s *senses) peerIsBack() bool {
	snap := s.p.agent.Snapshot()
	peer := s.p.peerName(snap.State)
	return snap.View.Nodes[peer] == projections.Alive || snap.Reports[peer].Boot != s.boot
}

// peerName is the other node: the one the log names, or before the log was ever
// read, the one whose member this node was told of.
func (p *process) peerName(s projections.State) string {
	for _, n := range s.NodeNames() {
		if n != p.cfg.Node {
			return n
		}
	}
	if len(s.Nodes) > 0 {
		return ""
	}
	for n := range p.file.get().Members {
		if n != p.cfg.Node {
			return n
		}
	}
	return ""
}

func routersUp(sessions []speaker.Session) bool {
	for _, s := range sessions {
		if s.State != speaker.Established {
			return false
		}
	}
	return len(sessions) > 0
}

// outlasts tells whether every session to a router that has gone would be down
// after that time.
func outlasts(d time.Duration, sessions []speaker.Session) bool {
	for _, s := range sessions {
		if s.HoldTime == 0 || time.Duration(s.HoldTime)*time.Second >= d {
			return false
		}
	}
	return true
}
