package pulse

import (
	"strings"
	"testing"
	"time"
)

// wired is a pair that hears both ways, with a's router reachable or not.
func wired(t *testing.T, reach bool) *pair {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	p.node[0].Reach(reach)
	return p
}

// out takes the cable of a's end of a path out.
func (p *pair) out(path int) {
	p.node[0].Carrier(p.now, path, false)
	p.cut[0][path], p.cut[1][path] = true, true
}

func (p *pair) in(path int) {
	p.node[0].Carrier(p.now, path, true)
	p.cut[0][path], p.cut[1][path] = false, false
}

func TestOneCableComesOut(t *testing.T) {
	p := wired(t, true)
	p.out(0)
	p.run(ms) // at once, not after a silence
	p.want("a:path-down/0 a:doubted")
	p.run(time.Second)
	if s := p.said(); strings.Contains(s, "suspected") {
		t.Error(s)
	}
	p.in(0)
	p.run(50 * ms)
	if s := p.said(); !strings.Contains(s, "a:path-up/0") {
		t.Error(s)
	}
}

// All of ours come out, together or one after the other: the other node is not
// suspected, though its own end suspects us.
func TestOurOwnCables(t *testing.T) {
	for _, between := range []time.Duration{0, 4 * ms, time.Second} {
		p := wired(t, true)
		p.out(0)
		p.run(between)
		p.said()
		p.node[0].Reach(false)
		p.out(1)
		p.node[0].Turn(p.now)
		p.note(0)
		if s := p.said(); !strings.HasSuffix(s, "a:severed") {
			t.Errorf("%s apart: %s", between, s)
		}
		p.run(10 * time.Second)
		if s := p.said(); strings.Contains(s, "a:suspected") || !strings.Contains(s, "b:suspected") {
			t.Errorf("%s apart: %s", between, s)
		}
		p.in(0)
		p.run(50 * ms)
		if s := p.said(); !strings.Contains(s, "a:path-up/0") || !strings.Contains(s, "a:heard") || strings.Contains(s, "a:path-up/1") {
			t.Errorf("%s apart, one back: %s", between, s)
		}
	}
}

// The other node dies at the far end of a direct cable: that it takes the carrier
// with it must not hide its death, whichever is noticed first.
func TestADeathOnADirectCable(t *testing.T) {
	for _, after := range []time.Duration{0, 3 * ms, 12 * ms, 15 * ms, 40 * ms} {
		p := wired(t, false) // even if no router was reached
		died := p.now
		p.dead[1] = true
		for p.node[0].state == alive && p.now < died+time.Second {
			if p.now == died+after {
				p.node[0].Carrier(p.now, 0, false) // direct; path 1 has a switch between
			}
			p.run(ms / 2)
		}
		if s := p.said(); !strings.Contains(s, "a:suspected") || p.now-died > Fast.Silence()+ms {
			t.Errorf("carrier lost %s after the death: %s after %s", after, s, p.now-died)
		}
	}
}

// Only direct cables, and routers elsewhere: the silence counts as ever, and is
// not cut short, so that the kernel can be asked.
func TestOnlyDirectCables(t *testing.T) {
	p := wired(t, true)
	p.dead[1] = true
	died := p.now
	p.node[0].Carrier(p.now, 0, false)
	p.node[0].Carrier(p.now, 1, false)
	p.run(4 * ms)
	p.want("a:path-down/0 a:path-down/1 a:doubted")
	for p.node[0].state == alive && p.now < died+time.Second {
		if due := p.node[0].Due(p.now); due > p.node[0].heardAt+Fast.Silence() {
			t.Fatalf("it would wake at %s only", due-died)
		}
		p.run(ms / 2)
	}
	if s := p.said(); !strings.HasSuffix(s, "a:suspected") || p.now-died < Fast.Silence()-Fast.Interval || p.now-died > Fast.Silence()+ms {
		t.Errorf("%s after %s", s, p.now-died)
	}
}

// A path that was silent for long says nothing when the last cable comes out.
func TestAnOldSilenceIsNoEvidence(t *testing.T) {
	p := wired(t, false)
	p.cut[1][0] = true
	p.run(time.Second)
	p.said()
	p.out(1)
	p.run(time.Second)
	if s := p.said(); strings.Contains(s, "a:suspected") || !strings.Contains(s, "a:severed") {
		t.Error(s)
	}
}

// The kernel may tell of our own cables after the silence was suspected.
func TestCarrierIsToldLate(t *testing.T) {
	p := wired(t, true)
	p.cut[1] = [2]bool{true, true}
	p.run(30 * ms)
	p.want("a:doubted a:path-down/0 a:path-down/1 a:suspected b:said")
	p.out(0)
	p.run(10 * ms)
	if s := p.said(); strings.Contains(s, "severed") {
		t.Errorf("one is left: %s", s)
	}
	p.node[0].Reach(false)
	p.out(1)
	p.run(ms)
	if s := p.said(); !strings.Contains(s, "a:severed") {
		t.Error(s)
	}
	p.in(0)
	p.run(50 * ms)
	if s := p.said(); !strings.Contains(s, "a:heard") {
		t.Error(s)
	}
}
