package failover

import (
	"maps"
	"slices"
	"time"

	"dyad/eventlog"
	"dyad/projections"
)

// contradictAfter is how long the pulse may call a node silent that the
// membership holds for alive, which would have noticed its death within a
// second. After that the pulse is taken for blind (a filtered port), until it
// hears the node again.
const contradictAfter = 2 * time.Second

// reading is what led to a verdict.
type reading struct {
	sensor   string
	silence  time.Duration
	evidence map[string]any
}

// weigh is the table of verdicts.
//
// The pulse outranks the membership while it hears the node: it has more paths.
// A kernel that answers outranks the membership's word of death: the membership
// runs in the process that is silent.
func (p *peer) weigh() projections.Verdict {
	if p.member == projections.Left {
		return projections.Left
	}
	switch p.heart {
	case projections.Unknown:
		return p.member
	case projections.Alive:
		switch {
		case p.word.Hung:
			return projections.Gray
		case p.word.Isolated:
			return projections.Isolated
		}
		return projections.Alive
	case projections.Gray:
		return projections.Gray
	}
	if p.member == projections.DeadMember {
		return projections.DeadMember
	}
	return p.heart
}

// downBy says why a node of that verdict does not carry its share.
func downBy(v projections.Verdict) (code, text string) {
	switch v {
	case projections.DeadMember:
		return "peer-dead", "is silent"
	case projections.DeadData:
		return "peer-dead-data", "is silent on every path, and its kernel too"
	case projections.Left:
		return "peer-left", "has stopped as planned"
	case projections.Suspect:
		return "peer-suspect", "misses heartbeats on every path"
	case projections.Gray:
		return "peer-gray", "has an agent that does not answer, and a kernel that does"
	case projections.ProcessDown:
		return "peer-process-down", "has lost its process"
	case projections.Isolated:
		return "peer-isolated", "is not answered by its routers"
	}
	return "", ""
}

// weigh turns the verdict on a node if the sensors add up to another one now,
// and words the fact.
func (m *Machine) weigh(now time.Time, name string, r reading) []Fact {
	p := m.peer(name)
	to, was := p.weigh(), p.verdict
	p.note(now, r)
	if to == was {
		return nil
	}
	p.verdict = to
	switch to {
	case projections.Alive:
		// It may have been cut off or paused, and have nothing new to report: its
		// last word holds, and the proof starts over.
		p.readySince, p.counted = time.Time{}, false
		p.prove(now)
	case projections.Suspect:
		m.suspected(now, p)
	case projections.Gray:
		// A kernel that answers has lost nothing, however long the agent stands
		// still; that its sessions are up is part of the proof afterwards.
		if was != projections.Suspect && !p.counted {
			m.suspected(now, p)
		}
	case projections.Left, projections.Unknown:
	default:
		if !p.counted {
			m.died(now, p)
		}
	}
	payload := eventlog.VerdictPayload{
		Node: name, Verdict: string(to), Was: string(was), Sensor: r.sensor, Silence: r.silence, Paths: p.hearing(),
	}
	switch {
	case p.heart == projections.Gray:
		payload.Kernel = "answers"
	case p.heart == projections.DeadData:
		payload.Kernel = "silent"
	}
	return []Fact{{Type: eventlog.TypeNodeVerdict, Stream: "verdict/" + name, At: now, Evidence: r.evidence, Data: payload}}
}

// pulse takes what the own pulse says.
func (m *Machine) pulse(now time.Time, in Input) []Fact {
	switch v := in.(type) {
	case PulseHeard:
		m.peer(v.Node).word = v.Word
		return m.heart(now, v.Node, projections.Alive, reading{sensor: SensorPulse, silence: v.Silence})
	case PulseWord:
		m.peer(v.Node).word = v.Word
		return m.heart(now, v.Node, projections.Alive, reading{sensor: SensorPulse})
	case PulseSuspect:
		return m.heart(now, v.Node, projections.Suspect, reading{SensorPulse, v.Silence, v.Evidence})
	case PulseProcessDown:
		return m.heart(now, v.Node, projections.ProcessDown, reading{SensorPulse, v.Silence, v.Evidence})
	case PulseSevered:
		return m.severed(now, v)
	case PulseKernel:
		return m.kernel(now, v)
	case PulseLeft:
		return m.heart(now, v.Node, projections.Unknown, reading{sensor: SensorPulse})
	case PulsePath:
		p := m.peer(v.Node)
		if p.paths[v.Path] = v.Up; !v.Up {
			delete(p.paths, v.Path)
		}
	case PulseReady:
		return []Fact{m.own(now, eventlog.TypePulseUp, eventlog.PulsePayload{Why: "ready", Restarts: v.Restarts})}
	case PulseHop:
		t := eventlog.TypeNextHopGiven
		if v.Taken {
			t = eventlog.TypeNextHopTaken
		}
		return []Fact{{
			Type: t, Stream: "nexthop/" + m.cfg.Self, At: now,
			Data: eventlog.NextHopPayload{Node: v.Node, Address: v.Address, Interface: v.Interface},
		}}
	case PulseLost:
		return m.pulseLost(now, v)
	}
	return nil
}

func (m *Machine) own(now time.Time, t eventlog.Type, data eventlog.PulsePayload) Fact {
	return Fact{Type: t, Stream: "pulse/" + m.cfg.Self, At: now, Reason: data.Why, Data: data}
}

// pulseLost leaves the membership as the only sensor.
func (m *Machine) pulseLost(now time.Time, v PulseLost) []Fact {
	facts := []Fact{m.own(now, eventlog.TypePulseDown, eventlog.PulsePayload{Why: v.Why, Restarts: v.Restarts})}
	for _, name := range slices.Sorted(maps.Keys(m.peers)) {
		clear(m.peers[name].paths)
		facts = append(facts, m.heart(now, name, projections.Unknown, reading{sensor: SensorPulse})...)
	}
	m.isolated = false
	return facts
}

// heart sets what the pulse says of a node. What it never heard it can't miss.
func (m *Machine) heart(now time.Time, name string, to projections.Verdict, r reading) []Fact {
	p := m.peer(name)
	if name == m.cfg.Self || p.heart == projections.Unknown && to != projections.Alive {
		return nil
	}
	switch {
	case to == projections.Alive || to == projections.Unknown:
		p.quietAt, p.routers = time.Time{}, NoAnswer
	case p.quietAt.IsZero():
		p.quietAt = now
		if m.isolated {
			p.routers = Unanswered
		}
	}
	p.heart = to
	facts := m.weigh(now, name, r)
	if p.verdict == projections.Alive {
		p.prove(now)
	}
	return facts
}

// severed: this node is cut off, and what it does not hear is no news of anybody.
//
// Invariant: its routers count as silent until the other node is heard again, so
// that nothing is taken by their word after such a break.
func (m *Machine) severed(now time.Time, v PulseSevered) []Fact {
	facts := m.heart(now, v.Node, projections.Unknown, reading{SensorPulse, v.Silence, v.Evidence})
	if v.Node != m.cfg.Self {
		m.peer(v.Node).routers = Unanswered
	}
	m.isolated = true
	return facts
}

// kernel grades a silence. A kernel that answers says nothing new of a process
// that is known to be gone.
func (m *Machine) kernel(now time.Time, v PulseKernel) []Fact {
	p := m.peer(v.Node)
	r := reading{SensorPulse, 0, v.Evidence}
	if !p.quietAt.IsZero() {
		r.silence = now.Sub(p.quietAt)
	}
	switch {
	case p.heart == projections.Alive || p.heart == projections.Unknown:
		return nil
	case !v.Answers:
		return m.heart(now, v.Node, projections.DeadData, r)
	case p.heart == projections.ProcessDown:
		return nil
	}
	return m.heart(now, v.Node, projections.Gray, r)
}

// gateway takes whether a router answers this node.
func (m *Machine) gateway(answers bool) {
	m.isolated = !answers
	for _, p := range m.peers {
		switch {
		case p.quietAt.IsZero():
		case answers:
			p.routers = Answered
		default:
			p.routers = Unanswered
		}
	}
}

// secondOpinion takes the pulse for blind where the membership has contradicted
// it for long enough.
func (m *Machine) secondOpinion(now time.Time) []Fact {
	var facts []Fact
	for _, name := range slices.Sorted(maps.Keys(m.peers)) {
		p := m.peers[name]
		if due := p.contradicted(); !due.IsZero() && !now.Before(due) {
			facts = append(facts, m.heart(now, name, projections.Unknown, reading{sensor: SensorMemberlist})...)
		}
	}
	return facts
}

// contradicted is when the membership will have contradicted the pulse for long
// enough; zero if it does not. A node that has just joined gets the time to be
// heard.
func (p *peer) contradicted() time.Time {
	if p.quietAt.IsZero() || p.member != projections.Alive {
		return time.Time{}
	}
	from := p.quietAt
	if p.memberAt.After(from) {
		from = p.memberAt
	}
	return from.Add(contradictAfter)
}

func (m *Machine) opinionDue() time.Time {
	var due time.Time
	for _, p := range m.peers {
		due = earliest(due, p.contradicted())
	}
	return due
}

// earliest is the earlier of two deadlines, of which zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// note keeps since when the node is heard, or not.
func (p *peer) note(now time.Time, r reading) {
	switch silent := p.silent(); {
	case silent && p.lastHeard.IsZero():
		p.lastHeard = now.Add(-r.silence)
		p.since = p.lastHeard
	case !silent && (!p.lastHeard.IsZero() || p.since.IsZero()):
		p.lastHeard, p.since = time.Time{}, now
	}
}

// silent: nothing of the node's user space is heard on any path.
func (p *peer) silent() bool {
	switch p.heart {
	case projections.Alive:
		return false
	case projections.Unknown:
		return p.member == projections.DeadMember || p.member == projections.Left
	}
	return p.member != projections.Alive
}

func (p *peer) hearing() []string {
	if len(p.paths) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(p.paths))
}

func (m *Machine) contacts() map[string]Contact {
	out := make(map[string]Contact, len(m.peers))
	for _, name := range m.others() {
		p := m.peers[name]
		if p == nil {
			p = newPeer()
		}
		out[name] = Contact{Silent: p.silent(), Since: p.since, Paths: p.hearing(), Epoch: p.word.Epoch, Mode: p.word.Mode, Routers: p.routers}
	}
	return out
}
