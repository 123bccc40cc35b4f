package failover

import (
	"slices"
	"time"

	"dyad/projections"
)

// peer is what the machine knows of another node.
type peer struct {
	name    string
	verdict projections.Verdict
	// member and heart are what the membership and the pulse say; the verdict is
	// what they add up to. heart is Unknown while the pulse has no say.
	member, heart projections.Verdict
	word          Word            // of its last heartbeat
	paths         map[string]bool // those that hear it
	lastHeard     time.Time       // when the present silence began
	since         time.Time       // see Contact.Since
	quietAt       time.Time       // when the pulse fell silent; zero while it hears
	routers       Answer          // see Contact.Routers
	memberAt      time.Time       // since when the membership holds it for alive
	counted       bool            // the present silence counts as a death already
	suspicions    []time.Time     // that came to nothing so far; like deaths
	report        Report
	told          time.Time // when report came
	gone          string    // the boot that said goodbye; its late reports count for nothing
	// readySince is when the peer was last seen to become ready, without a break
	// since; zero while it is not.
	readySince time.Time
	deaths     []time.Time // within FlapWindow, at most maxDeaths
	// owing: the peer was down, and must prove that it is ready before this
	// node gives its takeover up. owes is for how long; 0 after a drain.
	owing bool
	owes  time.Duration
	// died: it owes for a death, when it had been allowed back that often.
	died    bool
	allowed uint64
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
		p = newPeer()
		p.name = name
		m.peers[name] = p
	}
	return p
}

// stance is what the node last said of its own; empty if nothing. Its heartbeat
// is newer than its report.
func (p *peer) stance() projections.Stance {
	switch {
	case p == nil:
		return ""
	case p.heart != projections.Unknown && p.word.Stance != "":
		return p.word.Stance
	}
	return p.report.Stance
}

func newPeer() *peer {
	return &peer{
		verdict: projections.Unknown, member: projections.Unknown, heart: projections.Unknown, paths: map[string]bool{},
	}
}

// heard: the membership has the node, or its report came that way.
func (m *Machine) heard(now time.Time, name, sensor string) []Fact {
	if name == m.cfg.Self {
		return nil
	}
	if p := m.peer(name); p.member != projections.Alive {
		p.member, p.memberAt = projections.Alive, now
	}
	return m.weigh(now, name, reading{sensor: sensor})
}

// silent: a death counts towards damping, so a flapping node waits longer each
// time. A node that was never heard can't die.
func (m *Machine) silent(now time.Time, v PeerSilent) []Fact {
	p := m.peer(v.Node)
	if v.Node == m.cfg.Self || p.member != projections.Alive {
		return nil
	}
	p.member = projections.DeadMember
	return m.weigh(now, v.Node, reading{v.Sensor, v.Silence, v.Evidence})
}

// died counts a death and sets what the peer owes for it.
func (m *Machine) died(now time.Time, p *peer) {
	p.deaths = m.recent(now, p.deaths)
	p.owing, p.owes, p.readySince, p.counted = true, m.damped(m.cfg.FailbackDelay, len(p.deaths)), time.Time{}, true
	p.died, p.allowed = true, m.allowed[p.name]
}

// suspected counts a suspicion. If it comes to nothing the node lost nothing,
// and waits only as long as needed to keep two nodes from swinging.
func (m *Machine) suspected(now time.Time, p *peer) {
	p.suspicions = m.recent(now, p.suspicions)
	p.owing, p.owes, p.readySince = true, max(p.owes, m.damped(m.cfg.SuspectDelay, len(p.suspicions))), time.Time{}
}

// recent adds now to the times within FlapWindow.
func (m *Machine) recent(now time.Time, times []time.Time) []time.Time {
	times = append(slices.DeleteFunc(times, func(t time.Time) bool { return now.Sub(t) > m.cfg.FlapWindow }), now)
	return times[max(0, len(times)-maxDeaths):]
}

// damped doubles delay for each time after the first, up to FailbackMax.
func (m *Machine) damped(delay time.Duration, times int) time.Duration {
	for range times - 1 {
		delay = min(2*delay, m.cfg.FailbackMax)
	}
	return delay
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
	p.member = projections.Left
	return m.weigh(now, v.Node, reading{sensor: v.Sensor})
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
	p.prove(now)
	if r.Stopping {
		p.owing, p.owes = true, max(p.owes, m.cfg.FailbackDelay)
	}
	return facts
}

// prove starts or ends the proof that the peer is ready: by its report, and by
// its heartbeat, which is newer after a restart.
func (p *peer) prove(now time.Time) {
	switch ready := p.report.Ready && (p.heart != projections.Alive || p.word.forwards()); {
	case !ready:
		p.readySince = time.Time{}
	case p.readySince.IsZero():
		p.readySince = now
	}
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
		p.counted = false // it is back already
	}
	p.readySince = time.Time{}
}
