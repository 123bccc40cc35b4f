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
	gone    string // the boot that said goodbye; its late reports count for nothing
	// readySince is when the peer was last seen to become ready, without a break
	// since; zero while it is not.
	readySince time.Time
	deaths     []time.Time // within FlapWindow
	// owes is how long the peer must have been ready before this node gives
	// its takeover up; 0 if it owes nothing.
	owes time.Duration
}

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
	p.deaths = append(slices.DeleteFunc(p.deaths, func(t time.Time) bool { return now.Sub(t) > m.cfg.FlapWindow }), now)
	delay := m.cfg.FailbackDelay
	for range p.deaths[1:] {
		delay = min(2*delay, m.cfg.FailbackMax)
	}
	p.owes, p.readySince = delay, time.Time{}
	return m.turn(now, v.Node, v.Sensor, projections.DeadMember, v.Silence, v.Evidence)
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
	p.owes = max(p.owes, m.cfg.FailbackDelay)
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
	if r.Boot == p.report.Boot && r.N <= p.report.N || p.gone != "" && r.Boot == p.gone {
		return nil
	}
	if r.Boot != p.report.Boot {
		p.readySince = time.Time{}
	}
	facts := m.heard(now, v.Node, SensorReport)
	p.report = r
	switch {
	case !r.Ready:
		p.readySince = time.Time{}
	case p.readySince.IsZero():
		p.readySince = now
	}
	if r.Stopping {
		p.owes = max(p.owes, m.cfg.FailbackDelay)
	}
	return facts
}
