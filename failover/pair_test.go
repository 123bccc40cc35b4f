package failover

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dyad/projections"
)

// duo is two machines and the messages between them, which may be lost,
// doubled and overtake one another.
type duo struct {
	now     time.Time
	m       [2]*Machine
	last    [2]Output
	sync    [2]bool
	drained map[string]bool
	boots   int
	cut     bool
	flight  []flying
}

type flying struct {
	to int
	r  PeerReport
}

var duoNames = [2]string{"a", "b"}

func newDuo() *duo {
	d := &duo{now: epoch, drained: map[string]bool{}}
	d.boot(0)
	d.boot(1)
	return d
}

func (d *duo) boot(i int) {
	d.boots++
	d.now = d.now.Add(time.Millisecond) // no two boots at once
	d.m[i] = New(Config{Self: duoNames[i], Boot: fmt.Sprint(duoNames[i], d.boots)}, d.now)
	d.sync[i], d.last[i] = false, Output{}
	d.step(i, Tick{})
	d.step(i, Drained{Nodes: d.drained})
	if !d.cut {
		d.step(i, PeerAlive{Node: duoNames[1-i], Sensor: SensorMemberlist})
		d.send(1 - i)
	}
}

func (d *duo) step(i int, in Input) {
	o := d.m[i].Step(d.now, in)
	d.last[i] = o
	if o.ReportChanged {
		d.send(i)
	}
}

// send puts i's newest report on its way.
func (d *duo) send(i int) {
	if d.m[i] != nil {
		d.flight = append(d.flight, flying{1 - i, PeerReport{Node: duoNames[i], Report: d.last[i].Report}})
	}
}

func (d *duo) setCut(cut bool) {
	if d.cut == cut {
		return
	}
	d.cut = cut
	for i := range 2 {
		if cut {
			d.step(i, PeerSilent{Node: duoNames[1-i], Sensor: SensorMemberlist})
		} else {
			d.step(i, PeerAlive{Node: duoNames[1-i], Sensor: SensorMemberlist})
			d.send(i)
		}
	}
	if cut {
		d.flight = nil
	}
}

func (d *duo) deliver(k int, keep bool) {
	f := d.flight[k]
	if !keep {
		d.flight = append(d.flight[:k:k], d.flight[k+1:]...)
	}
	d.step(f.to, f.r)
}

// act does one random thing.
func (d *duo) act(r *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(r, "node")
	switch rapid.IntRange(0, 8).Draw(r, "act") {
	case 0:
		d.setCut(!d.cut)
	case 1: // a crash nobody noticed
		d.boot(i)
	case 2, 3:
		d.sync[i] = !d.sync[i]
		d.step(i, Synced{OK: d.sync[i]})
	case 4:
		d.drained = map[string]bool{duoNames[i]: !d.drained[duoNames[i]]}
		d.step(0, Drained{Nodes: d.drained})
		d.step(1, Drained{Nodes: d.drained})
	case 5, 6:
		if n := len(d.flight); n > 0 && !d.cut {
			d.deliver(rapid.IntRange(0, n-1).Draw(r, "which"), rapid.Bool().Draw(r, "doubled"))
		}
	case 7:
		if n := len(d.flight); n > 0 {
			d.flight = d.flight[:n-1] // lost
		}
	case 8:
		d.step(i, Tick{})
	}
}

func (d *duo) well(i int) bool { return d.sync[i] && !d.drained[duoNames[i]] }

// Whatever happens to a pair: two nodes that are well never both step down, and
// when the trouble is over both come to rest at normal and stay there.
func TestPairComesToRest(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d := newDuo()
		for range rapid.IntRange(0, 80).Draw(r, "acts") {
			d.now = d.now.Add(time.Duration(rapid.IntRange(0, 20000).Draw(r, "ms")) * time.Millisecond)
			d.act(r)
			for i := range 2 {
				v := d.m[i].View()
				if d.well(i) == (v.Stance == projections.StanceStepDown) {
					r.Fatalf("%s well=%v, but %s", duoNames[i], d.well(i), v.Stance)
				}
			}
		}
		d.calm()
		for range 64 {
			d.settle()
		}
		for i := range 2 {
			if v := d.m[i].View(); v.Stance != projections.StanceNormal {
				r.Fatalf("the trouble is over:\n%s\n%s", d.m[0], d.m[1])
			}
			if !d.last[i].WakeAt.IsZero() {
				r.Fatalf("%s rests, but wants to wake", duoNames[i])
			}
		}
		for range 20 { // and it stays so
			d.now = d.now.Add(time.Minute)
			for i := range 2 {
				if d.step(i, Tick{}); d.last[i].Changed || d.last[i].ReportChanged {
					r.Fatalf("unrest:\n%s", d.m[i])
				}
			}
		}
	})
}

// calm ends all trouble; the membership carries the newest reports for sure.
func (d *duo) calm() {
	d.setCut(false)
	d.drained = map[string]bool{}
	for i := range 2 {
		d.sync[i] = true
		d.step(i, Drained{})
		d.step(i, Synced{OK: true})
	}
	d.send(0)
	d.send(1)
}

// settle delivers everything and passes the next deadline.
func (d *duo) settle() {
	for range 64 {
		if len(d.flight) == 0 {
			break
		}
		d.deliver(0, false)
	}
	next := time.Time{}
	for i := range 2 {
		if w := d.last[i].WakeAt; !w.IsZero() && (next.IsZero() || w.Before(next)) {
			next = w
		}
	}
	if next.IsZero() {
		return
	}
	// A tick before its time does nothing.
	d.now = next.Add(-time.Nanosecond)
	for i := range 2 {
		was := d.last[i]
		if d.step(i, Tick{}); d.last[i].Changed || !d.last[i].WakeAt.Equal(was.WakeAt) {
			panic("a tick before its time did something")
		}
	}
	d.now = next
	d.step(0, Tick{})
	d.step(1, Tick{})
}
