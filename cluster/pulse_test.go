package cluster

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dyad/failover"
	"dyad/projections"
)

// fakePulse notes what it is fed.
type fakePulse struct {
	mu    sync.Mutex
	fed   int
	last  failover.Word
	armed bool
	state PulseStatus
}

func (f *fakePulse) Feed(w failover.Word, armed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fed++
	f.last, f.armed = w, armed
}

func (f *fakePulse) Status() PulseStatus { return f.state }

func (f *fakePulse) seen() (int, failover.Word, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fed, f.last, f.armed
}

// The loop feeds its pulse: often, with what is true, and armed only while this
// node wants traffic and has services. A suspicion of the pulse leads to a
// takeover with its instants.
func TestLoopFeedsThePulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.end()
		n := w.nodes["node-a"]
		p := &fakePulse{}
		n.pulse = p
		n.start()
		w.nodes["node-b"].start()
		time.Sleep(5 * time.Second)
		fed, word, armed := p.seen()
		if fed < 20 || word.Stance != projections.StanceNormal || word.Mode != "PAIR" || word.Epoch != 1 || armed {
			t.Fatalf("fed %d times: %+v armed=%v", fed, word, armed)
		}
		at := time.Now()
		n.agent.EmitAt(at, failover.PulseHeard{Node: "node-b"})
		n.agent.EmitAt(at.Add(time.Millisecond), failover.PulseSuspect{Node: "node-b"})
		n.agent.EmitAt(at.Add(2*time.Millisecond), failover.PulseHop{Node: "node-b", Taken: true})
		synctest.Wait()
		s := n.agent.Snapshot()
		if line := s.Timeline["node-b"]; s.View.Stance != projections.StanceTakeover || line.Detected.Sub(at) != time.Millisecond || line.NextHop.Sub(at) != 2*time.Millisecond {
			t.Errorf("%s %+v", s.View.Stance, line)
		}
		if _, word, _ := p.seen(); word.Stance != projections.StanceTakeover {
			t.Errorf("the pulse was not told at once: %+v", word)
		}
		n.agent.EmitAt(time.Now(), failover.PulseHeard{Node: "node-b"})
	})
}

func TestConditionsOfThePulse(t *testing.T) {
	codes := func(p *PulseStatus) (out []string) {
		for _, c := range diagnose(diagnosis{snap: &Snapshot{}, pulse: p}) {
			if c.Code == "pulse-down" || c.Code == "pulse-no-realtime" || c.Code == "path-down" {
				out = append(out, c.Code)
			}
		}
		return out
	}
	for name, tc := range map[string]struct {
		status *PulseStatus
		want   int
	}{
		"none configured": {nil, 0},
		"well":            {&PulseStatus{Running: true, Paths: map[string]PulsePath{"interlink": {Up: true}}}, 0},
		"dead":            {&PulseStatus{Why: "killed"}, 1},
		"late":            {&PulseStatus{Running: true, Lacks: "real-time priority"}, 1},
		"paths": {&PulseStatus{Running: true, Paths: map[string]PulsePath{
			"interlink": {}, "vSwitch1": {Up: true, Deaf: true}, "vSwitch2": {Error: "no such interface"},
		}}, 3},
	} {
		if got := codes(tc.status); len(got) != tc.want {
			t.Errorf("%s: %v, want %d", name, got, tc.want)
		}
	}
}
