package sim

import (
	"time"

	"dyad/failover"
)

// The membership, by the formula of what it does with two nodes: a death is
// noticed after T = W + 2 × 100 ms, W up to 200 ms; who is away is asked to join
// again every second.
const (
	memberProbe  = 100 * time.Millisecond
	memberRejoin = time.Second
	reportDelay  = 500 * time.Microsecond
)

// member is what one node's memberlist holds of the other one.
type member struct {
	alive bool
	gen   uint64
	due   bool // a change of mind is under way
}

// talks: both agents run and reach each other.
func (w *world) talks() bool {
	a, b := w.nodes[0].agent, w.nodes[1].agent
	return a != nil && b != nil && a.responsive() && b.responsive() && w.nodes[0].answers() && w.nodes[1].answers() && w.linked()
}

// member looks at node i's membership after something has changed.
func (w *world) member(i int) {
	n := w.nodes[i]
	m := &n.member
	if n.agent == nil {
		*m = member{gen: m.gen + 1}
		return
	}
	want := w.talks()
	if m.alive == want {
		m.due = false
		m.gen++
		return
	}
	if m.due || !n.agent.responsive() {
		return
	}
	m.due = true
	m.gen++
	gen, a := m.gen, n.agent
	wait := w.between(2*memberProbe, 4*memberProbe)
	if want {
		wait = w.between(10*time.Millisecond, memberRejoin)
	}
	w.after(wait, func() {
		if n.agent != a || m.gen != gen || !a.responsive() {
			return
		}
		m.due = false
		m.alive = want
		if !want {
			w.say(i, "memberlist: dead")
			a.step(failover.PeerSilent{Node: names[1-i], Sensor: failover.SensorMemberlist, Silence: wait})
			return
		}
		w.say(i, "memberlist: alive")
		a.step(failover.PeerAlive{Node: names[1-i], Sensor: failover.SensorMemberlist})
		w.send(1 - i)
	})
}

// send carries node i's newest report to the other one, if they talk; otherwise
// it goes with the next join.
func (w *world) send(i int) {
	from, to := w.nodes[i].agent, w.nodes[1-i].agent
	if from == nil || from.report.N == 0 || !w.talks() {
		return
	}
	r := from.report
	w.after(reportDelay+w.between(0, 3*time.Millisecond), func() {
		if w.nodes[1-i].agent == to && w.linked() {
			to.take(stamped{w.wall(1 - i), w.now, failover.PeerReport{Node: names[i], Report: r}})
		}
	})
}
