package failover

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"dyad/eventlog"
	"dyad/projections"
)

// Machine decides the preference at which this node announces. It is driven by
// [Machine.Step] alone and is not safe for use by several goroutines.
type Machine struct {
	cfg   Config
	peers map[string]*peer
	nodes []string // of the cluster; empty while not told

	synced, stopping, silenced bool
	isolated                   bool // no router answers this node
	drained                    map[string]bool
	allowed                    map[string]uint64
	want                       []netip.Addr
	established                map[netip.Addr]bool
	unhealthy                  map[string]string

	log Log

	view   projections.View
	report Report
	told   bool // a first report was given out
}

// New returns the machine of a node that has just started: not in sync, and
// nobody heard.
func New(cfg Config, now time.Time) *Machine {
	setDefault(&cfg.FailbackDelay, DefaultFailbackDelay)
	setDefault(&cfg.FailbackMax, max(DefaultFailbackMax, cfg.FailbackDelay))
	setDefault(&cfg.FlapWindow, DefaultFlapWindow)
	setDefault(&cfg.SuspectDelay, min(DefaultSuspectDelay, cfg.FailbackDelay))
	m := &Machine{
		cfg: cfg, peers: map[string]*peer{}, established: map[netip.Addr]bool{}, unhealthy: map[string]string{},
	}
	m.report = Report{Node: cfg.Self, Boot: cfg.Boot, Started: now.UnixMilli()}
	stance, reason, _ := m.judge(now)
	m.view = m.viewOf(now, stance, reason)
	return m
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// View returns the view after the last step. Its maps are the caller's.
func (m *Machine) View() projections.View { return cloneView(m.view) }

// Step takes one input, seen at now, and says what follows from it. Time must
// not go back between steps; if it does, deadlines wait for the later time.
func (m *Machine) Step(now time.Time, in Input) Output {
	facts := m.take(now, in)
	facts = append(facts, m.secondOpinion(now)...)
	m.owe()
	stance, reason, wake := m.judge(now)
	wake = earliest(wake, m.opinionDue())
	next := m.viewOf(now, stance, reason)
	if next.Stance != m.view.Stance {
		facts = append(facts, Fact{
			Type: eventlog.TypeStanceChanged, Stream: "stance/" + m.cfg.Self, At: now, Reason: reason.Text,
			Data: eventlog.StancePayload{Stance: string(next.Stance), Was: string(m.view.Stance), Code: reason.Code},
		})
	}
	out := Output{Facts: facts, WakeAt: wake, Changed: !sameView(m.view, next)}
	m.view = next
	out.View = cloneView(next)
	out.ReportChanged = m.renewReport()
	out.Report = m.report
	out.Contacts = m.contacts()
	return out
}

// take updates what the machine knows.
func (m *Machine) take(now time.Time, in Input) []Fact {
	switch v := in.(type) {
	case PeerAlive:
		return m.heard(now, v.Node, v.Sensor)
	case PeerSilent:
		return m.silent(now, v)
	case PeerLeft:
		return m.left(now, v)
	case PeerReport:
		return m.reported(now, v)
	case Session:
		m.established[v.Peer.Unmap()] = v.Established
	case Nodes:
		m.nodes = slices.Clone(v.Names)
	case Peers:
		m.want = slices.Clone(v.Want)
	case Synced:
		m.synced = v.OK
	case ServiceHealth:
		return m.health(now, v)
	case Services:
		maps.DeleteFunc(m.unhealthy, func(name string, _ string) bool { return !slices.Contains(v.Names, name) })
	case Drained:
		m.drained = maps.Clone(v.Nodes)
	case Allowed:
		m.allowed = maps.Clone(v.Nodes)
	case Log:
		m.log = v
	case Stopping:
		m.stopping = true
	case Silence:
		m.silenced = true
	case Gateway:
		m.gateway(v.Answers)
	case Tick:
	default:
		return m.pulse(now, in)
	}
	return nil
}

func (m *Machine) health(now time.Time, v ServiceHealth) []Fact {
	_, sick := m.unhealthy[v.Service]
	if v.Healthy {
		delete(m.unhealthy, v.Service)
	} else {
		m.unhealthy[v.Service] = v.Why
	}
	if sick == !v.Healthy {
		return nil
	}
	return []Fact{{
		Type: eventlog.TypeServiceHealth, Stream: "health/" + m.cfg.Self + "/" + v.Service, At: now, Reason: v.Why,
		Data: eventlog.HealthPayload{Service: v.Service, Healthy: v.Healthy, Why: v.Why},
	}}
}

// judge is the table of stances: the first row that applies decides. wake is
// when the answer may change by itself.
func (m *Machine) judge(now time.Time) (projections.Stance, projections.Reason, time.Time) {
	var never time.Time
	row := func(s projections.Stance, code, format string, args ...any) (projections.Stance, projections.Reason, time.Time) {
		return s, projections.Reason{Code: code, Text: fmt.Sprintf(format, args...)}, never
	}
	switch {
	case m.silenced:
		return row(projections.StanceSilent, "stopped", "the agent has handed over and stops")
	case m.stopping:
		return row(projections.StanceStepDown, "stopping", "a planned stop: the other node takes over first")
	case m.drained[m.cfg.Self]:
		return row(projections.StanceStepDown, "drained", "%s is drained", m.cfg.Self)
	case m.isolated:
		return row(projections.StanceStepDown, "isolated", "no router answers %s", m.cfg.Self)
	case !m.synced:
		return row(projections.StanceStepDown, "not-synced", "the log has not been read to its end since the start")
	}
	names := m.others()
	for _, n := range names {
		if code, text := m.down(n); code != "" {
			return row(projections.StanceTakeover, code, "%s", text)
		}
	}
	for _, n := range names {
		if s, r, wake, waits := m.failback(now, n); waits {
			return s, r, wake
		}
	}
	for _, n := range names {
		if m.verdict(n) == projections.Unknown {
			return row(projections.StanceNormal, "peer-unknown", "%s was not heard since the start", n)
		}
	}
	if len(names) == 0 {
		return row(projections.StanceNormal, "alone", "no other node is known")
	}
	return row(projections.StanceNormal, "normal", "both nodes are well")
}

// down says why a peer does not carry its share; empty if it does.
//
// Invariant: a node that was never heard is not down, so nothing is taken from
// a stranger.
func (m *Machine) down(name string) (code, text string) {
	p := m.peers[name]
	if p == nil {
		p = &peer{verdict: projections.Unknown}
	}
	if code, text := downBy(p.verdict); code != "" {
		return code, name + " " + text
	}
	switch {
	case m.drained[name]:
		return "peer-drained", name + " is drained"
	case p.verdict != projections.Alive:
		return "", ""
	case p.report.Stopping || p.heart == projections.Alive && p.word.Stopping:
		return "peer-stopping", name + " is about to stop"
	case stepsDown(p.report.Stance) || p.heart == projections.Alive && stepsDown(p.word.Stance):
		return "peer-steps-down", name + " steps down"
	}
	return "", ""
}

// failback keeps a takeover until the peer that is back has proved itself.
func (m *Machine) failback(now time.Time, name string) (projections.Stance, projections.Reason, time.Time, bool) {
	p := m.peers[name]
	if p == nil || !p.owing {
		return "", projections.Reason{}, time.Time{}, false
	}
	r := projections.Reason{Code: "failback-wait", Text: name + " is back and not ready yet"}
	if p.readySince.IsZero() {
		return projections.StanceTakeover, r, time.Time{}, true
	}
	due := p.readySince.Add(p.owes)
	if !now.Before(due) {
		if r, wake, held := m.held(now, name, p); held {
			return projections.StanceTakeover, r, wake, true
		}
		p.owing, p.owes, p.died = false, 0, false
		return "", projections.Reason{}, time.Time{}, false
	}
	r.Text = fmt.Sprintf("%s is back, and gets its share after %s without a break", name, p.owes)
	return projections.StanceTakeover, r, due, true
}

// others lists the nodes that count, sorted: those of the cluster, or while that
// is not known, those heard of.
func (m *Machine) others() []string {
	names := slices.Clone(m.nodes)
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(m.peers))
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == m.cfg.Self })
}

func (m *Machine) verdict(name string) projections.Verdict {
	if p := m.peers[name]; p != nil {
		return p.verdict
	}
	return projections.Unknown
}

// owe notes which peers have to prove themselves when they are up again.
func (m *Machine) owe() {
	for name, p := range m.peers {
		if code, _ := m.down(name); code != "" {
			p.owing = true
		}
	}
}

// Sessions counts the routers that have an established session with this node,
// and those that should have.
func (m *Machine) Sessions() (up, wanted int) {
	for _, a := range m.want {
		if m.established[a.Unmap()] {
			up++
		}
	}
	return up, len(m.want)
}

func stepsDown(s projections.Stance) bool {
	return s == projections.StanceStepDown || s == projections.StanceSilent
}

// ready: in sync, heard by every router, and here to stay.
func (m *Machine) ready() bool {
	if !m.synced || m.stopping || m.silenced || m.isolated || m.drained[m.cfg.Self] {
		return false
	}
	return !slices.ContainsFunc(m.want, func(a netip.Addr) bool { return !m.established[a.Unmap()] })
}

// renewReport tells whether the report has something new.
func (m *Machine) renewReport() bool {
	next := m.report
	next.Stance, next.Ready, next.Stopping = m.view.Stance, m.ready(), m.stopping || m.silenced
	next.Epoch, next.Mode = m.log.Epoch, m.log.Mode
	if m.told && next == m.report {
		return false
	}
	next.N++
	m.report, m.told = next, true
	return true
}

func (m *Machine) viewOf(now time.Time, stance projections.Stance, reason projections.Reason) projections.View {
	v := projections.View{
		Self: m.cfg.Self, Stance: stance, Reason: reason, Since: m.view.Since,
		Nodes: map[string]projections.Verdict{}, Unhealthy: m.unhealthy, Stances: map[string]projections.Stance{},
	}
	if stance != m.view.Stance {
		v.Since = now
	}
	for _, name := range m.others() {
		v.Nodes[name] = m.verdict(name)
		if s := m.peers[name].stance(); s != "" {
			v.Stances[name] = s
		}
	}
	return cloneView(v)
}

func cloneView(v projections.View) projections.View {
	v.Nodes, v.Unhealthy, v.Stances = maps.Clone(v.Nodes), maps.Clone(v.Unhealthy), maps.Clone(v.Stances)
	return v
}

func sameView(a, b projections.View) bool {
	return a.Stance == b.Stance && a.Reason == b.Reason && maps.Equal(a.Nodes, b.Nodes) && maps.Equal(a.Unhealthy, b.Unhealthy) &&
		maps.Equal(a.Stances, b.Stances)
}
