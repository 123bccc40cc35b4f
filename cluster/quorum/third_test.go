package quorum

import (
	"testing"
	"time"
)

// The order of the steps by which a third vote comes and goes; see the invariants
// of witnessed.
func TestThirdVote(t *testing.T) {
	pair, three := Record{Mode: Pair, Epoch: 2}, Record{Mode: Witnessed, Epoch: 3}
	up := func(r Record) LogSight {
		return LogSight{Epoch: r.Epoch, Mode: r.Mode, Self: true, Others: true, Shared: true, Writable: true}
	}
	peer := func(r Record) PeerSight { return PeerSight{Name: "b", Epoch: r.Epoch, Mode: r.Mode} }
	silent := PeerSight{Name: "b", Epoch: 3, Mode: Witnessed, Silent: time.Hour}
	learner := ThirdSight{Named: true, Learning: true}
	whole := ThirdSight{Named: true, Votes: true}
	down := up(three)
	down.Writable, down.Refusing = false, time.Hour
	for name, c := range map[string]struct {
		r    Record
		s    Sight
		do   Deed
		mode Mode
	}{
		"it copies the log":              {pair, Sight{Log: up(pair), Peer: peer(pair), Third: learner}, Wait, Pair},
		"it has everything":              {pair, Sight{Log: up(pair), Peer: peer(pair), Third: learner, Learner: true}, Widen, Pair},
		"a learner that nobody named":    {pair, Sight{Log: up(pair), Peer: peer(pair), Third: ThirdSight{Learning: true, Unwanted: true}, Learner: true}, Shed, Pair},
		"while this one leaves":          {pair, Sight{Log: up(pair), Peer: peer(pair), Third: learner, Learner: true, Leaving: true}, Leave, Pair},
		"the other is a pair's still":    {three, Sight{Log: up(three), Peer: peer(pair), Third: learner, Learner: true}, Wait, Witnessed},
		"the other is silent":            {three, Sight{Log: up(three), Peer: silent, Third: learner, Learner: true}, Wait, Witnessed},
		"the other was at an old epoch":  {three, Sight{Log: up(three), Peer: peer(Record{Mode: Witnessed, Epoch: 2}), Third: learner, Learner: true}, Wait, Witnessed},
		"both know":                      {three, Sight{Log: up(three), Peer: peer(three), Third: learner, Learner: true}, Enlist, Witnessed},
		"all three vote":                 {three, Sight{Log: up(three), Peer: peer(three), Third: whole}, Wait, Witnessed},
		"two are silent":                 {three, Sight{Log: down, Peer: silent, Third: whole}, Wait, Suspended},
		"an operator's word":             {three, Sight{Log: down, Peer: silent, Third: whole, Word: Word{Peer: "b", AcceptLoss: true}}, Wait, Suspended},
		"a fence's":                      {three, Sight{Log: down, Peer: silent, Third: whole, Authority: ByFence, Fenced: true, Steady: true, Proven: true}, Wait, Suspended},
		"a node without its disk":        {three, Sight{Log: up(three), Peer: peer(Record{Mode: Joining, Epoch: 3}), Third: ThirdSight{Named: true, Votes: true, Learning: true}, Learner: true}, Pairup, Witnessed},
		"it votes, and does not know":    {three, Sight{Log: up(three), Peer: peer(Record{Mode: Joining, Epoch: 3}), Third: whole}, Pairup, Witnessed},
		"it votes, no third one left":    {three, Sight{Log: up(three), Peer: peer(Record{Mode: Joining, Epoch: 3})}, Pairup, Witnessed},
		"before the third one goes":      {three, Sight{Log: up(three), Peer: peer(Record{Mode: Joining, Epoch: 3}), Third: ThirdSight{Votes: true, Unwanted: true, Learning: true}, Learner: true}, Pairup, Witnessed},
		"it is admitted, and not ready":  {three, Sight{Log: up(three), Peer: peer(Record{Mode: Joining, Epoch: 3}), Third: ThirdSight{Named: true, Votes: true, Learning: true}}, Wait, Witnessed},
		"it has not taken the epoch":     {three, Sight{Log: up(three), Peer: peer(Record{Mode: Joining, Epoch: 2}), Third: whole}, Wait, Witnessed},
		"removed from the log":           {three, Sight{Log: up(three), Peer: peer(three), Third: ThirdSight{Votes: true, Unwanted: true}}, Shed, Witnessed},
		"removed from the store":         {three, Sight{Log: up(three), Peer: peer(three)}, Narrow, Witnessed},
		"removed, and two are not there": {three, Sight{Log: down, Peer: silent}, Wait, Suspended},
	} {
		c.s.Self, c.s.HoldDown = "a", time.Second
		if m := Next(c.r, c.s); m.Do != c.do || m.Mode != c.mode || m.Record != c.r || m.Do != Wait && m.Do != Shed && m.Do != Enlist && m.Epoch != c.r.Epoch+1 {
			t.Errorf("%s: %+v, want %s as %s", name, m, c.do, c.mode)
		}
	}
	// A node of a pair may have been given the log before it heard of the third.
	m := Next(three, Sight{Self: "a", HoldDown: time.Second, Log: down, Peer: PeerSight{Name: "b", Epoch: 4, Mode: Sole}})
	if m.Record.Mode != Stale || m.Do != Return {
		t.Errorf("passed over: %+v", m)
	}
	m = Next(Record{Mode: Stale, Epoch: 3}, Sight{Self: "a", HoldDown: time.Second, Peer: peer(three)})
	if m.Do != Return {
		t.Errorf("without its store: %+v", m)
	}
}
