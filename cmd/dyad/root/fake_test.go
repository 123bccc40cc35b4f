package root

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/identity"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/eventlog/memlog"
	"dyad/projections"
	"dyad/projections/audit"
	"dyad/speaker"
)

// epochOfTests is what the fake agent's clock says.
var epochOfTests = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fake is an agent without a network: real rules, a real log in memory, and two
// nodes that do what they are told.
type fake struct {
	log *memlog.Log

	mu    sync.Mutex
	state projections.State
	mode  string // "", late, unavailable, degraded, dead
	ids   int

	id *identity.Store // nil until serve
}

func newFake() *fake {
	f := &fake{log: memlog.New(func() time.Time { return epochOfTests })}
	prefix := netip.MustParsePrefix
	system := api.Caller{Actor: eventlog.Actor{Name: "dyad", Auth: "system"}}
	for _, c := range []projections.Command{
		projections.StartEpoch{Epoch: 1, Mode: "PAIR", Writers: []string{"node-a", "node-b"}, Cluster: "c1"},
		projections.JoinNode{Node: eventlog.Node{Name: "node-a", Address: netip.MustParseAddr("192.168.0.1"), API: "192.168.0.1:7944", Version: "1.0"}},
		projections.JoinNode{Node: eventlog.Node{Name: "node-b", Address: netip.MustParseAddr("192.168.0.2"), API: "192.168.0.2:7944", Version: "1.0"}},
		projections.DeclareSwitch{Switch: eventlog.Switch{
			Name: "vSwitch1", ID: "f4a92de8-26ed-4597-a141-cb233c2ba0aa", Compute: true, Management: true, Source: "config",
			Ports: []eventlog.Port{
				{Node: "node-a", Interface: "eth1", Alias: "Port3", Addresses: []netip.Prefix{prefix("10.126.77.11/24")}},
				{Node: "node-a", Interface: "eth2", Alias: "Port4"},
				{Node: "node-b", Interface: "eth1", Alias: "Port3", Addresses: []netip.Prefix{prefix("10.126.77.12/24")}},
			},
		}},
		projections.DeclareSwitch{Switch: eventlog.Switch{
			Name: "vSwitch2", ID: "6a5f0f4c-0a3c-4e5c-8f5e-0d4e8e1b2c3d", Storage: true, Source: "config",
			Ports: []eventlog.Port{{Node: "node-a", Interface: "eth5", Alias: "Port5"}},
		}},
	} {
		if _, err := f.do(context.Background(), system, api.Request{Interface: "config"}, c); err != nil {
			panic(err)
		}
	}
	return f
}

func (f *fake) set(mode string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode = mode
}

// do decides, appends and folds.
func (f *fake) do(ctx context.Context, who api.Caller, r api.Request, c projections.Command) ([]eventlog.Envelope, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	drafts, err := projections.NewPlanner(f.state).Decide(c)
	if err != nil {
		return nil, err
	}
	for i := range drafts {
		f.ids++
		d := &drafts[i]
		d.ID, d.Actor, d.Reason, d.Key, d.Causation = fmt.Sprintf("id-%d", f.ids), who.Actor, r.Reason, r.Key, r.Causation
		d.Source = eventlog.Source{Node: "node-a", Interface: r.Interface, Client: r.Client}
	}
	sealed, err := f.log.Append(ctx, eventlog.Batch{Drafts: drafts, Epoch: f.state.Head.Epoch})
	f.state = projections.Fold(f.state, sealed...)
	return sealed, err
}

func (f *fake) now() (projections.State, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.mode
}

func view(s projections.State, node string) projections.View {
	v := projections.View{Self: node, Stance: projections.StanceNormal, Reason: projections.Reason{Code: "normal", Text: "both nodes are well"}}
	if s.Drained[node] {
		v.Stance, v.Reason = projections.StanceStepDown, projections.Reason{Code: "drained", Text: "drained by an operator"}
	}
	return v
}

// orphan records what node-b had alone: a pool, a service that the pool of today
// can't give, a fact, and the start of an epoch.
func (f *fake) orphan() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	rg, err := eventlog.ParseRange("198.51.100.0/28")
	if err != nil {
		return err
	}
	head := eventlog.Head{Seq: 40, Hash: strings.Repeat("0", 64), Epoch: 1}
	var run []eventlog.Envelope
	for i, v := range []struct {
		t       eventlog.Type
		stream  string
		payload any
	}{
		{eventlog.TypePoolSet, "pool/old", eventlog.Pool{Name: "old", Ranges: []eventlog.Range{rg}}},
		{eventlog.TypeServiceSet, "service/lost", eventlog.Service{
			Name: "lost", Pool: "gone", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.9")}, Placement: eventlog.ActiveStandby,
		}},
		{eventlog.TypeStoreUp, "store/node-b", eventlog.StorePayload{}},
		{eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{Epoch: 2, Mode: "SOLE"}},
	} {
		d, err := eventlog.NewDraft(v.t, v.stream, v.payload, nil)
		if err != nil {
			return err
		}
		d.ID, d.Source.Node, d.Reason = fmt.Sprintf("lost-%d", i), "node-b", "ticket 7"
		e, err := eventlog.Seal(head, head.Epoch, 1, epochOfTests, d)
		if err != nil {
			return err
		}
		run, head = append(run, e), eventlog.HeadOf(e)
	}
	p, err := eventlog.Orphan("node-b", "boot-1", "store.orphaned-1", run)
	if err != nil {
		return err
	}
	d, err := eventlog.NewDraft(eventlog.TypeLogOrphaned, "log", p, nil)
	if err != nil {
		return err
	}
	d.ID = "orphan-1"
	sealed, err := f.log.Append(context.Background(), eventlog.Batch{Drafts: []eventlog.Draft{d}, Epoch: f.state.Head.Epoch})
	f.state = projections.Fold(f.state, sealed...)
	return err
}

func (f *fake) State() projections.State { s, _ := f.now(); return s }

func (f *fake) status(node string) api.Status {
	s, mode := f.now()
	st := api.Status{
		Node: node, Version: "1.0", Cluster: s.Cluster, Mode: "PAIR", Writable: true, Head: s.Head, View: view(s, node), Started: epochOfTests,
		Counts: map[string]int{"peers": len(s.Peers), "pools": len(s.Pools), "services": len(s.Services)},
	}
	for _, p := range s.Peers {
		st.Sessions = append(st.Sessions, speaker.Session{
			Peer: p.Address, State: speaker.Established, PeerASN: p.PeerASN, SelfASN: p.SelfASN, HoldTime: min(p.HoldTime, 30), Since: epochOfTests,
		})
	}
	for _, a := range projections.Desired(s, st.View) {
		if a.Announced {
			st.Counts["announced"]++
		} else {
			st.Counts["withheld"]++
		}
	}
	if mode == "degraded" {
		st.Conditions = append(st.Conditions, api.Condition{
			Code: "session-down", Severity: api.Warning, Text: "10.126.77.125 does not answer; try: dyad peer list", Affects: "failover",
		})
	}
	return st
}

func (f *fake) Status(context.Context) api.Status { return f.status("node-a") }

func (f *fake) ClusterStatus(context.Context) []api.NodeStatus {
	a, b := f.status("node-a"), f.status("node-b")
	out := []api.NodeStatus{{Node: "node-a", Status: &a}, {Node: "node-b", Status: &b}}
	if _, mode := f.now(); mode == "dead" {
		out[1] = api.NodeStatus{Node: "node-b", Error: "no route to host"}
	}
	return out
}

func (f *fake) Execute(ctx context.Context, who api.Caller, r api.Request) (api.Result, error) {
	c, err := api.DecodeCommand(r.Verb, r.Args)
	if err != nil {
		return api.Result{}, err
	}
	c = projections.At(c, epochOfTests)
	before, mode := f.now()
	if mode == "unavailable" {
		return api.Result{}, fmt.Errorf("%w: no quorum", eventlog.ErrUnavailable)
	}
	if mode == "broken" {
		return api.Result{}, errors.New("the disk is full")
	}
	if r.DryRun {
		return dryRun(before, c)
	}
	sealed, err := f.do(ctx, who, r, c)
	if err != nil {
		return api.Result{}, err
	}
	after := f.State()
	res := api.Result{Seq: after.Head.Seq}
	touched := map[string]bool{}
	for _, e := range sealed {
		res.Events = append(res.Events, eventlog.Public(e))
		touched[e.Stream] = true
	}
	if r.Wait == 0 {
		return res, nil
	}
	for _, n := range after.NodeNames() {
		nr := api.NodeResult{Node: n, Applied: res.Seq, Converged: true}
		for _, a := range projections.Desired(after, view(after, n)) {
			if touched["service/"+a.Service] {
				nr.Announces = append(nr.Announces, a)
			}
		}
		if mode == "late" && n == "node-b" {
			nr = api.NodeResult{Node: n, Error: "not yet: applied 3"}
		}
		res.Nodes = append(res.Nodes, nr)
	}
	return res, nil
}

func dryRun(s projections.State, c projections.Command) (api.Result, error) {
	planner := projections.NewPlanner(s)
	drafts, err := planner.Decide(c)
	if err != nil {
		return api.Result{}, err
	}
	res := api.Result{DryRun: true, Seq: s.Head.Seq}
	for _, d := range drafts {
		res.Events = append(res.Events, eventlog.Public{Draft: d})
	}
	after := planner.State()
	for _, n := range after.NodeNames() {
		for _, ch := range projections.Diff(projections.Desired(s, view(s, n)), projections.Desired(after, view(after, n))) {
			l := api.DiffLine{Op: ch.Op, Item: ch.Now}
			if ch.Op == "~" {
				l.Was = &ch.Was
			}
			res.Diff = append(res.Diff, l)
		}
	}
	return res, nil
}

func (f *fake) Announcements(_ context.Context, cluster bool) []api.NodeAnnouncements {
	s, mode := f.now()
	out := []api.NodeAnnouncements{{Node: "node-a", Items: projections.Desired(s, view(s, "node-a"))}}
	switch {
	case cluster && mode == "dead":
		out = append(out, api.NodeAnnouncements{Node: "node-b", Error: "no route to host"})
	case cluster:
		out = append(out, api.NodeAnnouncements{Node: "node-b", Items: projections.Desired(s, view(s, "node-b"))})
	}
	return out
}

func (f *fake) Witness(_ context.Context, cluster bool) []api.WitnessStatus {
	s, mode := f.now()
	out := []api.WitnessStatus{{Node: "node-a", URL: s.Witness.URL, Why: "the cluster has no witness; dyad witness add URL"}}
	if s.Witness.URL != "" {
		claim := quorum.Claim{Cluster: "c1", Epoch: s.Head.Epoch, Mode: quorum.Pair}
		out[0] = api.WitnessStatus{
			Node: "node-a", URL: s.Witness.URL, Fingerprint: s.Witness.Fingerprint, Kind: "https", Release: "1.0",
			Latency: 12 * time.Millisecond, Claim: &claim, Matches: true,
		}
	}
	if cluster {
		other := out[0]
		other.Node = "node-b"
		if mode == "dead" {
			other = api.WitnessStatus{Node: "node-b", URL: s.Witness.URL, Why: "no route to host"}
		}
		out = append(out, other)
	}
	return out
}

func (f *fake) AddWitness(ctx context.Context, who api.Caller, r api.WitnessRequest) (api.Result, error) {
	url, fp, _ := strings.Cut(r.URL, "#")
	verb, args, err := api.EncodeCommand(projections.SetWitness{URL: url, Fingerprint: fp, Replace: r.Replace})
	if err != nil {
		return api.Result{}, err
	}
	if strings.Contains(r.URL, "token-only") && r.Token != "open-sesame" {
		return api.Result{}, &api.Error{Class: api.ClassDenied, Code: "witness-denied", What: "witness " + url, Why: "it wants its token", Fix: "dyad witness add URL --token-file FILE"}
	}
	return f.Execute(ctx, who, api.Request{Verb: verb, Args: args, Reason: r.Reason, Key: r.Key, DryRun: r.DryRun, Interface: r.Interface, Client: r.Client, Wait: r.Wait})
}

func (f *fake) Events(ctx context.Context, q audit.Query) ([]eventlog.Envelope, error) {
	all, err := f.log.Read(ctx, 0, eventlog.MaxPage)
	return q.Select(all), err
}

func (f *fake) FollowEvents(ctx context.Context, q audit.Query) iter.Seq2[eventlog.Envelope, error] {
	return func(yield func(eventlog.Envelope, error) bool) {
		for batch, err := range f.log.Follow(ctx, eventlog.Head{}) {
			if err != nil {
				yield(eventlog.Envelope{}, err)
				return
			}
			for _, e := range batch {
				if q.Match(e) && !yield(e, nil) {
					return
				}
			}
		}
	}
}

func (f *fake) Explain(ctx context.Context, a netip.Addr) (api.Explanation, error) {
	s, _ := f.now()
	x := api.Explanation{Address: a}
	x.Lines, x.Service, x.Pool, _ = projections.Explain(s, view(s, "node-a"), a)
	events, err := f.Events(ctx, audit.Query{Streams: []string{"service/" + x.Service}})
	for _, e := range events {
		x.Events = append(x.Events, eventlog.Public(e))
	}
	return x, err
}

func (f *fake) Segments() []api.Segment { return nil }

func (f *fake) Segment(context.Context, eventlog.Seq, eventlog.Seq) ([]byte, error) {
	return nil, errors.New("not in a test")
}

func (f *fake) Verify(_ context.Context, fromStart bool, progress func(done, of eventlog.Seq)) (api.Verification, error) {
	s, mode := f.now()
	progress(1, s.Head.Seq)
	v := api.Verification{
		Node: "node-a", From: 1, To: s.Head.Seq, Events: int(s.Head.Seq), Head: s.Head,
		Others: []api.Comparison{{Node: "node-b", Head: s.Head, Same: true}},
	}
	if fromStart {
		v.Segments = 2
	}
	if mode == "broken" {
		v.Damage = []string{"segment 0000000000000001.seg is damaged: line 3; try: dyad log verify"}
	}
	return v, nil
}

func (f *fake) Doctor(_ context.Context, cluster bool) []api.Examination {
	_, mode := f.now()
	found := api.Finding{Code: "fsync", Result: api.ResultOK, Subject: "/var/lib/dyad", Text: "median 200µs, longest 1ms of 16"}
	if mode == "degraded" {
		found.Result, found.Fix = api.ResultWarning, "a faster disk"
	}
	out := []api.Examination{{
		Node: "node-a", Version: "1.0", Findings: []api.Finding{found},
		Expect: []api.Expectation{{Peer: netip.MustParseAddr("10.126.77.125"), Way: api.WayNextHop, Least: 10 * time.Millisecond, Most: 15 * time.Millisecond, Text: "10–15 ms"}},
	}}
	switch {
	case cluster && mode == "dead":
		out = append(out, api.Examination{Node: "node-b", Error: "no route to host"})
	case cluster:
		out = append(out, api.Examination{Node: "node-b", Version: "1.0", Findings: []api.Finding{{Code: "fsync", Result: api.ResultOK, Text: "fast"}}})
	}
	return out
}

func (f *fake) ProbeRouter(_ context.Context, _ api.Caller, r api.ProbeRequest) (api.RouterProbe, error) {
	s, mode := f.now()
	if refused := projections.CheckTest(s, r.Peer, r.Prefix); refused != nil {
		return api.RouterProbe{}, refused
	}
	out := api.RouterProbe{Peer: r.Peer, Prefix: r.Prefix, Result: api.ResultUnknown, Text: "can't tell: the router sends nothing back", Fix: "dyad drill run host-silent"}
	if mode != "degraded" {
		out.Result, out.Text, out.Fix = api.ResultOK, "the router moved 61ms after the change of all attributes", ""
		for _, st := range projections.TestSteps(false) {
			out.Steps = append(out.Steps, eventlog.ProbedStep{Step: st.Name, Mover: "node-b", Moved: st.Name != projections.StepMED, Took: 61 * time.Millisecond})
		}
	}
	return out, nil
}

func (f *fake) TestRoute(context.Context, api.TestRouteRequest) (api.TestRouteAnswer, error) {
	return api.TestRouteAnswer{}, errors.New("not in a test")
}

func (f *fake) RecordFact(context.Context, api.Caller, api.FactRequest) error { return nil }

func (f *fake) Rejoin(context.Context, api.Caller, api.JoinRequest) (api.JoinResponse, error) {
	return api.JoinResponse{}, errors.New("not in a test")
}

func (f *fake) Takeover(_ context.Context, _ api.Caller, r api.TakeoverRequest) (api.TakeoverResult, error) {
	if r.Reason == "" {
		return api.TakeoverResult{}, &api.Error{Class: api.ClassRefused, Code: "reason", What: "takeover", Why: "why must be said", Fix: "--reason TEXT"}
	}
	return api.TakeoverResult{Node: "node-a", Epoch: 2, Mode: "SOLE", Notes: []string{r.Peer + " sets its log aside"}, DryRun: r.DryRun}, nil
}

func (f *fake) ReplaceNode(ctx context.Context, who api.Caller, r api.ReplaceNodeRequest) (api.ReplaceNodeResult, error) {
	res := api.ReplaceNodeResult{Node: r.Node, With: cmp.Or(r.With, r.Node), Removed: true, Epoch: 2, API: "192.168.0.1:7980", DryRun: r.DryRun}
	drafts, err := projections.Decide(f.State(), projections.ReplaceNode{Name: res.Node, With: res.With, Self: "node-a"})
	for _, d := range drafts {
		res.Events = append(res.Events, eventlog.Public{Draft: d})
	}
	return res, err
}

func (f *fake) RemoveNode(_ context.Context, _ api.Caller, r api.RemoveNodeRequest) (api.RemoveNodeResult, error) {
	return api.RemoveNodeResult{Node: r.Node, Epoch: 2, DryRun: r.DryRun}, nil
}
