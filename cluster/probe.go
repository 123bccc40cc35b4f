package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/speaker"
)

// Bounds of a router's probe.
const (
	// steadyFor is how long a router's choice must stand before a step begins:
	// its last change must not be taken for an answer to the next.
	steadyFor = 250 * time.Millisecond
	// steadyEvery is how often it is looked at meanwhile.
	steadyEvery = 50 * time.Millisecond
	// slowMove is when a router is called slow to move.
	slowMove = time.Second
)

// party is one node that takes part in a probe.
type party struct {
	name string
	ask  func(context.Context, api.TestRouteRequest) (api.TestRouteAnswer, error)
}

// probing is one probe. A router sends its best path to the neighbours it did
// not learn it from, so the node whose path lost hears the other's. Both nodes
// announce alike; then the one that lost announces better in one group of
// attributes, and the router honours that group if the roles change.
type probing struct {
	request  api.TestRouteRequest // of every move
	settle   time.Duration
	internal bool // iBGP
	parties  [2]party
}

// errMute says why no step can begin.
type errMute struct{ text, fix string }

func (e *errMute) Error() string { return e.text }

// run makes all moves and says what the router did. An error means that a node
// did not do its part.
func (p *probing) run(ctx context.Context) (steps []eventlog.ProbedStep, err error) {
	defer func() { err = errors.Join(err, p.end(ctx)) }()
	base := projections.TestBase()
	for _, n := range p.parties {
		if _, err := p.move(ctx, n, &base, "", 0); err != nil {
			return nil, err
		}
	}
	for _, s := range projections.TestSteps(p.internal) {
		loser, err := p.steady(ctx)
		if err != nil {
			return steps, err
		}
		step, err := p.step(ctx, s, loser)
		if err == nil {
			_, err = p.move(ctx, p.parties[loser], &base, "", 0)
		}
		if err != nil {
			return steps, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// move has one node announce (nil: go on as it is) and wait.
func (p *probing) move(ctx context.Context, n party, at *projections.Attributes, until string, wait time.Duration) (api.TestRouteAnswer, error) {
	r := p.request
	r.Announce, r.Until, r.Wait = at, until, wait
	ans, err := n.ask(ctx, r)
	if err != nil {
		return ans, fmt.Errorf("%s: %w", n.name, err)
	}
	return ans, nil
}

// step has the loser announce better, and watches both nodes until the router
// has moved. The time is the loser's, by its own clock: from its announcement
// until the winner's path is not sent to it any more.
func (p *probing) step(ctx context.Context, s projections.TestStep, loser int) (eventlog.ProbedStep, error) {
	out := eventlog.ProbedStep{Step: s.Name, Mover: p.parties[loser].name}
	var won, lost api.TestRouteAnswer
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { won, errs[0] = p.move(ctx, p.parties[1-loser], nil, api.UntilTheirs, p.settle) })
	wg.Go(func() { lost, errs[1] = p.move(ctx, p.parties[loser], &s.Attributes, api.UntilNotTheirs, p.settle) })
	wg.Wait()
	if out.Moved = won.Met; out.Moved {
		out.Took = won.Took
		if lost.Met {
			out.Took = lost.Took
		}
	}
	return out, errors.Join(errs[:]...)
}

// steady waits until exactly one node hears the other's path, and has done so
// for a while: it is the one that lost. Otherwise the error is an [errMute].
func (p *probing) steady(ctx context.Context) (loser int, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.settle+steadyFor)
	defer cancel()
	tick := time.NewTicker(steadyEvery)
	defer tick.Stop()
	last, since := -1, 0
	var heard [2]api.TestRouteAnswer
	for {
		for i, n := range p.parties {
			ans, err := p.move(ctx, n, nil, "", 0)
			if ctx.Err() != nil {
				return 0, mute(heard)
			}
			if err != nil {
				return 0, err
			}
			heard[i] = ans
		}
		now := -1
		if heard[0].Theirs != heard[1].Theirs {
			now = 0
			if heard[1].Theirs {
				now = 1
			}
		}
		if since++; now != last {
			last, since = now, 0
		}
		if last >= 0 && since >= int(steadyFor/steadyEvery) {
			return last, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, mute(heard)
		}
	}
}

// mute says what can't be told from what both nodes heard last.
func mute(heard [2]api.TestRouteAnswer) error {
	switch a, b := heard[0], heard[1]; {
	case a.Theirs && b.Theirs:
		return &errMute{
			"can't tell: the router sends each node the other's path, so it chooses for each neighbor apart, as a route server does",
			"dyad drill run host-silent in a lab like this network",
		}
	case a.Unmarked || b.Unmarked:
		return &errMute{
			"can't tell: the router sends a path without the community that says whose it is",
			"have the router send communities to both nodes (send-community), then again",
		}
	case a.Theirs != b.Theirs:
		return &errMute{"can't tell: the router's choice did not come to rest", "dyad doctor --probe-router --settle 40s"}
	}
	return &errMute{
		"can't tell: the router sends nothing back. It may refuse the test prefix, send its routes to nobody, send none to a neighbor whose ASN is in the path, or not reflect between iBGP neighbors",
		"dyad doctor --probe-router --prefix PREFIX with a free address that its filters let pass; or dyad drill run host-silent",
	}
}

// end withdraws on both nodes, whatever became of the probe.
func (p *probing) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), remoteBound)
	defer cancel()
	var errs []error
	for _, n := range p.parties {
		r := p.request
		r.End = true
		if _, err := n.ask(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("%s withdraws its test route within %s: %w", n.name, testLease, err))
		}
	}
	return errors.Join(errs...)
}

// ProbeRouter implements [api.Backend].
func (a *Agent) ProbeRouter(ctx context.Context, who api.Caller, r api.ProbeRequest) (api.RouterProbe, error) {
	s := a.State()
	r.Peer = r.Peer.Unmap()
	if !r.Prefix.IsValid() {
		r.Prefix = projections.TestPrefix(r.Peer)
	}
	if r.Settle == 0 {
		r.Settle = api.DefaultSettle
	}
	out := api.RouterProbe{Peer: r.Peer, Prefix: r.Prefix}
	peer, other, err := a.mayProbe(ctx, s, r)
	if err != nil {
		return out, err
	}
	p := &probing{
		request: api.TestRouteRequest{Probe: a.p.NewID(), Peer: r.Peer, Prefix: r.Prefix},
		settle:  r.Settle, internal: peer.PeerASN == peer.SelfASN,
		parties: [2]party{
			{a.p.Config.Node, a.TestRoute},
			{other.Name, func(ctx context.Context, t api.TestRouteRequest) (api.TestRouteAnswer, error) {
				return a.p.Peer.TestRoute(ctx, other, t)
			}},
		},
	}
	a.recordProbe(who, eventlog.TypeRouterProbeStarted, p.request.Probe, r.Reason, eventlog.RouterProbePayload{Peer: r.Peer, Prefix: r.Prefix})
	bound, cancel := context.WithTimeout(ctx, api.ProbeBound(r.Settle))
	defer cancel()
	out.Steps, err = p.run(bound)
	a.judge(&out, err)
	a.recordProbe(who, eventlog.TypeRouterProbeEnded, p.request.Probe, r.Reason, eventlog.RouterProbePayload{
		Peer: r.Peer, Prefix: r.Prefix, Result: out.Result, Why: out.Text, Steps: out.Steps,
	})
	var m *errMute
	if err != nil && !errors.As(err, &m) {
		return out, err
	}
	return out, nil
}

// mayProbe refuses a probe that can't find anything out.
func (a *Agent) mayProbe(ctx context.Context, s projections.State, r api.ProbeRequest) (peer eventlog.Peer, other eventlog.Node, err error) {
	what := "probe of router " + r.Peer.String()
	refuse := func(code, why, fix string) error {
		return &projections.Refusal{Code: code, What: what, Why: why, Fix: fix}
	}
	for _, p := range api.Peers(s) {
		if p.Address == r.Peer {
			peer = p
		}
	}
	if !peer.Address.IsValid() {
		return peer, other, refuse("no-such-peer", "the cluster has no such peer", "dyad peer list")
	}
	if refused := projections.CheckTest(s, r.Peer, r.Prefix); refused != nil {
		return peer, other, refused
	}
	names := a.peerNames(s)
	if len(names) != 1 {
		return peer, other, refuse("one-node", "it takes two nodes: the router is to choose between them", "dyad join on the other one, then again")
	}
	other = s.Nodes[names[0]]
	theirs, err := a.p.Peer.Status(ctx, other)
	if err != nil {
		return peer, other, refuse("node-silent", other.Name+" does not answer: "+brief(err), "dyad status")
	}
	for name, sessions := range map[string][]speaker.Session{a.p.Config.Node: a.p.Speaker.Sessions(), other.Name: theirs.Sessions} {
		if !established(sessions, r.Peer) {
			return peer, other, refuse("session-down", name+" has no session with it", "dyad peer show "+r.Peer.String())
		}
	}
	return peer, other, nil
}

// judge says what a probe means.
func (a *Agent) judge(out *api.RouterProbe, err error) {
	var m *errMute
	var all eventlog.ProbedStep
	var follows, ignores []string
	for _, s := range out.Steps {
		switch {
		case s.Step == projections.StepAll:
			all = s
		case s.Moved:
			follows = append(follows, s.Step)
		default:
			ignores = append(ignores, s.Step)
		}
	}
	switch {
	case errors.As(err, &m):
		out.Result, out.Text, out.Fix = api.ResultUnknown, m.text, m.fix
		return
	case err != nil:
		out.Result, out.Text, out.Fix = api.ResultUnknown, "broken off: "+brief(err), "dyad status, then again"
		return
	case !all.Moved:
		out.Result = api.ResultProblem
		out.Text = "the router did not move although everything that this session carries was better; it ignores the preference, or takes longer to send a change"
		out.Fix = "look for a policy on the router that sets preferences; or dyad doctor --probe-router --settle 40s if it delays updates"
		out.Expect = a.expectHold(out.Peer)
	default:
		out.Result = api.ResultOK
		out.Text = fmt.Sprintf("the router moved %s after the change of all attributes", all.Took.Round(100*time.Microsecond))
		if all.Took > slowMove {
			out.Result, out.Fix = api.ResultWarning, "shorten the advertisement interval for both nodes on the router (advertisement-interval 0)"
		}
	}
	if len(follows) > 0 {
		out.Text += "; alone it follows " + strings.Join(follows, ", ")
	}
	if len(ignores) > 0 {
		out.Text += "; alone it does not follow " + strings.Join(ignores, ", ")
	}
	if all.Moved {
		out.Expect = a.expect(a.State(), out.Peer, all.Took)
	}
}

func (a *Agent) recordProbe(who api.Caller, t eventlog.Type, id, reason string, p eventlog.RouterProbePayload) {
	d, err := eventlog.NewDraft(t, "router/"+p.Peer.String(), p, nil)
	if err != nil {
		a.p.Logger.Error("a fact can't be encoded", "event", t, "reason", err)
		return
	}
	d.ID, d.Actor, d.Source = a.p.NewID(), who.Actor, a.source("api", "")
	d.Reason, d.Correlation, d.ObservedAt = reason, id, a.p.Now()
	a.rec.draft(d)
}
