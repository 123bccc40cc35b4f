package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/eventlog"
	"dyad/failover/pulse"
	"dyad/projections"
	"dyad/speaker"
)

const (
	// doctorBound bounds the examination of one node.
	doctorBound = 8 * time.Second
	// maxSkew is how far the nodes' clocks may be apart: events of both are read
	// side by side.
	maxSkew = 500 * time.Millisecond
	// badSkew is when certificates and tokens of one node may not be valid yet on
	// the other.
	badSkew = 30 * time.Second
)

// Doctor implements [api.Backend].
func (a *Agent) Doctor(ctx context.Context, cluster bool) []api.Examination {
	var own api.Examination
	var between []api.Finding
	var theirs map[string]answer[api.Examination]
	var wg sync.WaitGroup
	wg.Go(func() { own = a.examine(ctx) })
	if cluster {
		wg.Go(func() { theirs = othersWithin(ctx, a, doctorBound+remoteBound, a.p.Peer.Doctor) })
		wg.Go(func() { between = a.compareNodes(ctx) })
	}
	wg.Wait()
	own.Findings = append(own.Findings, between...)
	out := []api.Examination{own}
	for name, ans := range theirs {
		e := ans.v
		if ans.err != nil {
			e = api.Examination{Error: brief(ans.err)}
		}
		e.Node = name
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y api.Examination) int { return compareNames(x.Node, y.Node) })
	return out
}

// examine looks at this node.
func (a *Agent) examine(ctx context.Context) api.Examination {
	ctx, cancel := context.WithTimeout(ctx, doctorBound)
	defer cancel()
	s := a.Snapshot()
	st := a.Status(ctx)
	e := api.Examination{Node: st.Node, Version: st.Version}
	e.Findings = append(e.Findings, conditions(st)...)
	e.Findings = append(e.Findings, sessionFindings(s.State, st.Sessions)...)
	e.Findings = append(e.Findings, a.pulseFindings()...)
	e.Findings = append(e.Findings, nextHopFindings(s.State, st.Node)...)
	if a.p.Tester != nil {
		e.Findings = append(e.Findings, a.beaconFindings(s.State)...)
	}
	if a.p.Host != nil {
		e.Findings = append(e.Findings, a.p.Host.Examine(ctx, hostQuestion(s.State, a.p.Config))...)
	}
	for _, p := range peerAddresses(s.State) {
		e.Expect = append(e.Expect, a.expect(s.State, p, 0)...)
	}
	return e
}

// own checks say more about these than their conditions do.
var ownChecks = []string{"session-down", "pulse-down", "pulse-no-realtime", "path-down"}

// conditions turns a node's health into findings.
func conditions(st api.Status) []api.Finding {
	results := map[api.Severity]string{api.Critical: api.ResultProblem, api.Warning: api.ResultWarning, api.Info: api.ResultOK, api.OK: api.ResultOK}
	var out []api.Finding
	for _, c := range st.Conditions {
		if !slices.Contains(ownChecks, c.Code) {
			text, fix, _ := strings.Cut(c.Text, "; try: ")
			out = append(out, api.Finding{Code: c.Code, Result: cmp.Or(results[c.Severity], api.ResultUnknown), Text: text + " (" + c.Affects + ")", Fix: fix})
		}
	}
	if len(out) == 0 {
		out = append(out, api.Finding{Code: "conditions", Result: api.ResultOK, Text: "nothing needs attention"})
	}
	return out
}

func established(sessions []speaker.Session, peer netip.Addr) bool {
	return slices.ContainsFunc(sessions, func(s speaker.Session) bool { return s.Peer == peer && s.State == speaker.Established })
}

func peerAddresses(s projections.State) []netip.Addr {
	var out []netip.Addr
	for _, k := range s.PeerKeys() {
		if !slices.Contains(out, k.Address) {
			out = append(out, k.Address)
		}
	}
	return out
}

func sessionFindings(s projections.State, sessions []speaker.Session) []api.Finding {
	out := []api.Finding{}
	for _, p := range peerAddresses(s) {
		f := api.Finding{Code: "session", Subject: p.String(), Result: api.ResultProblem, Text: "there is none", Fix: "dyad peer show " + p.String()}
		for _, v := range sessions {
			switch {
			case v.Peer != p:
			case v.State == speaker.Established:
				f.Result, f.Fix = api.ResultOK, ""
				f.Text = fmt.Sprintf("established, hold time %d s, %d prefixes advertised", v.HoldTime, v.Advertised)
				if v.Withheld > 0 {
					f.Result, f.Text = api.ResultWarning, v.LastError
				}
			default:
				f.Text = string(v.State) + ": " + cmp.Or(v.LastError, "no answer yet")
			}
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		out = append(out, api.Finding{
			Code: "session", Result: api.ResultWarning, Text: "there is no router to announce to",
			Fix: "dyad peer add ADDRESS --peer-asn ASN --self-asn ASN",
		})
	}
	return out
}

// pulseFindings tell of the heartbeats, which are a test of both directions that
// goes on all the time.
func (a *Agent) pulseFindings() []api.Finding {
	if a.with.Pulse == nil || a.p.Config.Failover.Profile == config.ProfileOff {
		return []api.Finding{{
			Code: "pulse", Result: api.ResultWarning, Text: "it is off: a silent death is noticed by the membership in 200–400 ms",
			Fix: "failover.profile: fast in the configuration of both nodes",
		}}
	}
	p := a.with.Pulse.Status()
	run := api.Finding{Code: "pulse", Result: api.ResultOK, Text: "it runs, profile " + a.p.Config.Failover.Profile}
	if !p.Running {
		run.Result, run.Text, run.Fix = api.ResultProblem, "it does not run: "+orNothing(&p), "the agent's log says why: journalctl -u dyad"
	}
	punctual := api.Finding{Code: "realtime", Result: api.ResultOK, Text: "the pulse has SCHED_FIFO and locked memory"}
	switch {
	case !p.Running:
		punctual.Result, punctual.Text = api.ResultUnknown, "the pulse does not run"
	case p.Lacks != "":
		punctual.Result, punctual.Text = api.ResultWarning, "the pulse lacks "+p.Lacks+": under load the other node may be suspected though it lives"
		punctual.Fix = "CAP_SYS_NICE and CAP_IPC_LOCK for the agent, as in the service file; kernel.sched_rt_runtime_us=-1 or 950000"
	}
	out := []api.Finding{run, punctual}
	for _, name := range slices.Sorted(maps.Keys(p.Paths)) {
		f := api.Finding{Code: "pulse-path", Subject: name, Result: api.ResultOK, Text: "heartbeats are heard in both directions"}
		port := a.p.Config.Ports.Pulse
		switch v := p.Paths[name]; {
		case v.Error != "":
			f.Result, f.Text, f.Fix = api.ResultProblem, v.Error, "dyad switch list, and the interface's address"
		case !v.Up:
			f.Result, f.Text = api.ResultProblem, "no heartbeats come"
			f.Fix = fmt.Sprintf("cabling; and let UDP port %d pass in both directions", port)
		case v.Deaf:
			f.Result, f.Text = api.ResultProblem, "the other node hears nothing from here"
			f.Fix = fmt.Sprintf("let UDP port %d pass from here to the other node", port)
		}
		out = append(out, f)
	}
	if n := len(projections.Paths(a.State(), projections.View{Self: a.p.Config.Node})); n == 1 {
		out = append(out, api.Finding{
			Code: "pulse-paths", Result: api.ResultWarning, Text: "there is one path between the nodes: if it is cut, each takes the other for dead",
			Fix: "a switch on which both nodes have an address in one subnet; dyad switch list",
		})
	}
	return out
}

// nextHopFindings say for every router whether the other node's next hop could
// be taken over there.
func nextHopFindings(s projections.State, self string) []api.Finding {
	v := projections.View{Self: self}
	var out []api.Finding
	for _, p := range peerAddresses(s) {
		f := api.Finding{
			Code: "next-hop", Subject: p.String(), Result: api.ResultWarning,
			Text: "it can't be taken over: both nodes and the router share no subnet on a compute switch; the preference does the work",
			Fix:  "an address of each node in the router's subnet on one switch; dyad switch list",
		}
		for _, h := range hopsTo(s, v, p) {
			f.Result, f.Fix = api.ResultOK, ""
			f.Text = fmt.Sprintf("%s of %s can be taken over on %s", h.Address, h.Node, h.Interface)
		}
		out = append(out, f)
	}
	return out
}

// hopsTo lists the next hops that this node could take at one router.
func hopsTo(s projections.State, v projections.View, peer netip.Addr) []projections.NextHop {
	var own []projections.Gateway
	for _, g := range projections.Gateways(s, v) {
		if g.Address == peer {
			own = append(own, g)
		}
	}
	return slices.DeleteFunc(projections.NextHops(s, v), func(h projections.NextHop) bool {
		return !slices.ContainsFunc(own, func(g projections.Gateway) bool { return g.Switch == h.Switch && g.Own == h.Own })
	})
}

// expect says how long traffic through a router is away if the other node dies
// without a word. measured is the router's own time, 0 if not known.
func (a *Agent) expect(s projections.State, peer netip.Addr, measured time.Duration) []api.Expectation {
	least, most, by := 200*time.Millisecond, 400*time.Millisecond, "the membership"
	if p, err := pulse.FindProfile(a.p.Config.Failover.Profile); err == nil && a.with.Pulse != nil {
		least, most, by = p.Doubt(), p.Silence(), "the pulse ("+p.Name+")"
	}
	seen := fmt.Sprintf("%s–%s until %s notices", least, most, by)
	var out []api.Expectation
	if len(hopsTo(s, projections.View{Self: a.p.Config.Node}, peer)) > 0 && a.with.Pulse != nil {
		out = append(out, api.Expectation{Peer: peer, Way: api.WayNextHop, Least: least, Most: most, Text: seen + ", and traffic is back: the router has nothing to do"})
	}
	e := api.Expectation{Peer: peer, Way: api.WayPreference, Least: least, Most: most, Text: seen + ", and the router's own time, which a probe measures: dyad doctor --probe-router"}
	if measured > 0 {
		e.Text = fmt.Sprintf("%s, %s for the router to move, and its time to program that", seen, measured.Round(100*time.Microsecond))
		e.Least, e.Most = least+measured, most+measured
	}
	return append(out, e)
}

// expectHold is what to expect of a router that does not follow the preference:
// it goes on sending to a dead node until the session ends by itself.
func (a *Agent) expectHold(peer netip.Addr) []api.Expectation {
	for _, s := range a.p.Speaker.Sessions() {
		if s.Peer != peer {
			continue
		}
		if s.HoldTime == 0 {
			return []api.Expectation{{Peer: peer, Way: api.WayPreference, Text: "the router does not follow the preference, and its session never ends by itself"}}
		}
		hold := time.Duration(s.HoldTime) * time.Second
		return []api.Expectation{{
			Peer: peer, Way: api.WayPreference, Least: hold * 2 / 3, Most: hold,
			Text: "the router does not follow the preference: it goes on until the hold time of its session",
		}}
	}
	return nil
}

// hostQuestion is what this node's host must do for the cluster.
func hostQuestion(s projections.State, c config.Config) HostQuestion {
	q := HostQuestion{DataDir: c.DataDir}
	for _, sw := range s.Switches {
		for _, p := range sw.Ports {
			if p.Node == c.Node {
				q.Ports = append(q.Ports, p)
			}
		}
	}
	slices.SortFunc(q.Ports, func(x, y eventlog.Port) int { return compareNames(x.Interface, y.Interface) })
	v := projections.View{Self: c.Node}
	for _, p := range projections.Paths(s, v) {
		name := cmp.Or(p.Switch, "interlink")
		if p.Switch != "" && !p.Local.Is4() {
			name += "/6" // as the pulse calls it
		}
		q.Neighbors = append(q.Neighbors, Neighbor{Name: p.Node + " on " + name, Interface: p.Interface, Own: p.Local, Address: p.Remote})
	}
	for _, g := range projections.Gateways(s, v) {
		q.Neighbors = append(q.Neighbors, Neighbor{Name: "router " + g.Address.String(), Interface: g.Interface, Own: g.Own, Address: g.Address})
	}
	for _, n := range s.Nodes {
		if n.Name != c.Node {
			q.Listeners = append(q.Listeners, listeners(n, c)...)
		}
	}
	return q
}

// listeners are another node's. What it did not say of itself is taken to be as
// on this node.
func listeners(n eventlog.Node, c config.Config) []Listener {
	at := func(said string, port int) netip.AddrPort {
		if ap, err := netip.ParseAddrPort(said); err == nil {
			return ap
		}
		return netip.AddrPortFrom(n.Address, uint16(port))
	}
	out := []Listener{{"api of " + n.Name, at(n.API, c.Ports.API)}, {"gossip of " + n.Name, at(n.Gossip, c.Ports.Gossip)}}
	if !c.Store.External() {
		out = append(out, Listener{"store of " + n.Name, at("", c.Ports.StorePeer)})
	}
	return out
}

// compareNodes looks at clocks and releases. Half of the time that the question
// took is how far the answer may be off.
func (a *Agent) compareNodes(ctx context.Context) []api.Finding {
	type seen struct {
		st    api.Status
		began time.Time
		took  time.Duration
	}
	var out []api.Finding
	answers := others(ctx, a, func(ctx context.Context, n eventlog.Node) (seen, error) {
		began := a.p.Now()
		st, err := a.p.Peer.Status(ctx, n)
		return seen{st, began, a.p.Now().Sub(began)}, err
	})
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		ans := answers[name]
		if ans.err != nil {
			continue // its examination says so
		}
		out = append(out, skew(name, ans.v.st.Now, ans.v.began, ans.v.took), releases(name, a.p.Version, ans.v.st.Version))
	}
	return out
}

func skew(name string, theirs, began time.Time, took time.Duration) api.Finding {
	f := api.Finding{Code: "clock", Subject: name, Result: api.ResultOK, Fix: "chronyc makestep on both nodes, and the same time server for both"}
	if theirs.IsZero() {
		f.Result, f.Text, f.Fix = api.ResultUnknown, "its release does not tell its time", "upgrade dyad on "+name
		return f
	}
	off := theirs.Sub(began.Add(took / 2))
	f.Text = fmt.Sprintf("its clock is off by %s (±%s)", off.Round(100*time.Microsecond), (took / 2).Round(100*time.Microsecond))
	switch d := off.Abs(); {
	case d > badSkew:
		f.Result, f.Text = api.ResultProblem, f.Text+": what one node issues may not be valid yet on the other"
	case d > maxSkew:
		f.Result, f.Text = api.ResultWarning, f.Text+": times in the log can't be compared"
	default:
		f.Fix = ""
	}
	return f
}

func releases(name, own, theirs string) api.Finding {
	if own == theirs {
		return api.Finding{Code: "release", Subject: name, Result: api.ResultOK, Text: "both nodes run " + own}
	}
	return api.Finding{
		Code: "release", Subject: name, Result: api.ResultWarning, Text: fmt.Sprintf("it runs %s, this node %s", theirs, own),
		Fix: "the same release on both, one node after the other",
	}
}
