package failover

import (
	"slices"
	"time"

	"dyad/eventlog"
	"dyad/projections"
)

// peer is what the machine knows of another node.
type peer struct {
	verdict projections.Verdict
	report  Report
	told    time.Time // when report came
	gone    string    // the boot that said goodbye; its late reports count for nothing
	// readySince is when the peer was last seen to become ready, without a break
	// since; zero while it is not.
	readySince time.Time
	deaths     []time.Time // within FlapWindow, at most maxDeaths
	// owing: the peer was down, and must prove that it is ready before this
	// node gives its takeover up. owes is for how long; 0 after a drain.
	owing bool
	owes  time.Duration
}

const (
	// maxDeaths bounds what is remembered; far fewer reach FailbackMax.
	maxDeaths = 64
	// lateBound is how long after the word of a newer boot one of an older boot
	// counts as late. It is bounded because a clock may have been set back
	// between the two: such a node must not stay unheard.
	lateBound = 10 * time.Second
)

func (m *Machine) peer(name string) *peer {
	p, ok := m.peers[name]
	if !ok {
		p = &peer{verdict: projections.Unknown}
		m.peers[name] = p
	}
	return p
}

// turn changes the verdict on a node and words the fact.
func (m *Machine) turn(now time.Time, name, sensor string, to projections.Verdict, silence time.Duration, evidence map[string]any) []Fact {
	p := m.peer(name)
	if name == m.cfg.Self || p.verdict == to {
		return nil
	}
	was := p.verdict
	p.verdict = to
	return []Fact{{
		Type: eventlog.TypeNodeVerdict, Stream: "verdict/" + name, At: now, Evidence: evidence,
		Data: eventlog.VerdictPayload{Node: name, Verdict: string(to), Was: string(was), Sensor: sensor, Silence: silence},
	}}
}

func (m *Machine) heard(now time.Time, name, sensor string) []Fact {
	if name == m.cfg.Self {
		return nil
	}
	p := m.peer(name)
	if p.verdict != projections.Alive {
		// It may have been cut off or paused, and have nothing new to report: its
		// last word holds, and the proof starts over.
		p.readySince = time.Time{}
		if p.report.Ready {
			p.readySince = now
		}
	}
	return m.turn(now, name, sensor, projections.Alive, 0, nil)
}

// silent: a death counts towards damping, so a flapping node waits longer each
// time. A node that was never heard can't die.
func (m *Machine) silent(now time.Time, v PeerSilent) []Fact {
	if v.Node == m.cfg.Self {
		return nil
	}
	p := m.peer(v.Node)
	if p.verdict != projections.Alive {
		return nil
	}
	m.died(now, p)
	return m.turn(now, v.Node, v.Sensor, projections.DeadMember, v.Silence, v.Evidence)
}

// died counts a death and sets what the peer owes for it.
func (m *Machine) died(now time.Time, p *peer) {
	p.deaths = append(slices.DeleteFunc(p.deaths, func(t time.Time) bool { return now.Sub(t) > m.cfg.FlapWindow }), now)
	p.deaths = p.deaths[max(0, len(p.deaths)-maxDeaths):]
	delay := m.cfg.FailbackDelay
	for range p.deaths[1:] {
		delay = min(2*delay, m.cfg.FailbackMax)
	}
	p.owing, p.owes, p.readySince = true, delay, time.Time{}
}

// left: a planned stop is no flap, but the node has to prove itself again.
func (m *Machine) left(now time.Time, v PeerLeft) []Fact {
	if v.Node == m.cfg.Self {
		return nil
	}
	p := m.peer(v.Node)
	if p.verdict == projections.Unknown || p.verdict == projections.Left {
		return nil
	}
	p.gone, p.readySince = p.report.Boot, time.Time{}
	p.owing, p.owes = true, max(p.owes, m.cfg.FailbackDelay)
	return m.turn(now, v.Node, v.Sensor, projections.Left, 0, nil)
}

// reported takes the peer's own word. Reports may overtake one another: within
// one boot only the highest number counts.
func (m *Machine) reported(now time.Time, v PeerReport) []Fact {
	if v.Node == m.cfg.Self {
		return nil
	}
	p := m.peer(v.Node)
	r := v.Report
	if p.late(now, r) {
		return nil
	}
	if r.Boot != p.report.Boot {
		m.reborn(now, p)
	}
	facts := m.heard(now, v.Node, SensorReport)
	p.report, p.told = r, now
	switch {
	case !r.Ready:
		p.readySince = time.Time{}
	case p.readySince.IsZero():
		p.readySince = now
	}
	if r.Stopping {
		p.owing, p.owes = true, max(p.owes, m.cfg.FailbackDelay)
	}
	return facts
}

// late tells whether the peer has said something newer already.
func (p *peer) late(now time.Time, r Report) bool {
	switch {
	case r.Boot == p.report.Boot && r.N <= p.report.N:
		return true
	case p.gone != "" && r.Boot == p.gone:
		return true
	}
	return r.Boot != p.report.Boot && r.Started < p.report.Started && p.verdict == projections.Alive && now.Sub(p.told) < lateBound
}

// reborn: the peer reports from a new boot. If nothing was known to be wrong
// with the old one, it crashed and came back before a sensor noticed; that is a
// death like any other, or a fast crash loop would never be damped.
func (m *Machine) reborn(now time.Time, p *peer) {
	if p.report.Boot != "" && p.verdict == projections.Alive && !p.owing {
		m.died(now, p)
	}
	p.readySince = time.Time{}
}
