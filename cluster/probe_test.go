package cluster

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
	"dyad/speaker"
)

// chooser is a router that chooses between the test routes of two nodes.
type chooser struct {
	delay   time.Duration // until a change is sent back
	compare func(x, y projections.Attributes) int
	mute    bool // sends nothing back
	strip   bool // takes communities away
	echo    bool // sends its choice to whom it learned it from, too
	apart   bool // sends everybody the other's path

	mu     sync.Mutex
	routes map[string]projections.Attributes
	best   string
	past   []choice
	most   int // routes at a time
}

// choice is what the router chose, and when.
type choice struct {
	at     time.Time
	node   string
	routes map[string]projections.Attributes
}

// changed chooses anew. Among equals the choice stays, as it was.
func (c *chooser) changed() {
	for node, at := range c.routes {
		if now, ok := c.routes[c.best]; !ok || c.compare(at, now) < 0 {
			c.best = node
		}
	}
	if _, ok := c.routes[c.best]; !ok {
		c.best = ""
	}
	c.most = max(c.most, len(c.routes))
	copied := map[string]projections.Attributes{}
	for n, at := range c.routes {
		copied[n] = at
	}
	c.past = append(c.past, choice{time.Now(), c.best, copied})
}

func (c *chooser) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.routes)
}

// atNode is the router as one node's speaker reaches it.
type atNode struct {
	c    *chooser
	node string
	fail error
}

func (n *atNode) Test(_ context.Context, r speaker.Route) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	n.c.routes[n.node] = r.Attributes
	n.c.changed()
	return nil
}

func (n *atNode) Untest(context.Context, netip.Addr, netip.Prefix) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	delete(n.c.routes, n.node)
	n.c.changed()
	return nil
}

func (n *atNode) Heard(netip.Addr, netip.Prefix) (speaker.Heard, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	now := choice{}
	for _, p := range n.c.past {
		if time.Since(p.at) >= n.c.delay {
			now = p
		}
	}
	from := now.node
	if n.c.apart {
		for other := range now.routes {
			if other != n.node {
				from = other
			}
		}
	}
	if n.c.mute || from == "" || from == n.node && !n.c.echo {
		return speaker.Heard{}, nil
	}
	h := speaker.Heard{There: true, Communities: now.routes[from].Communities, NextHop: router}
	if n.c.strip {
		h.Communities = nil
	}
	return h, nil
}

// byAll compares as RFC 4271 section 9.1.2 does.
func byAll(x, y projections.Attributes) int {
	return cmp.Or(cmp.Compare(x.Prepend, y.Prepend), cmp.Compare(x.Origin, y.Origin), cmp.Compare(x.MED, y.MED))
}

// probed brings a pair up at such a router.
func probed(t *testing.T, c *chooser) (*world, *node, *node) {
	t.Helper()
	c.routes = map[string]projections.Attributes{}
	w := newWorld(t)
	a, b := w.nodes["node-a"], w.nodes["node-b"]
	a.tester, b.tester = &atNode{c: c, node: "node-a"}, &atNode{c: c, node: "node-b"}
	a.start()
	b.start()
	w.within(time.Minute, "both nodes are well and in the log", func() bool {
		s := a.agent.State()
		return a.well() && b.well() && len(s.Nodes) == 2 && len(s.Switches["vSwitch1"].Ports) == 2
	})
	a.must(projections.SetPeer{Switch: "vSwitch1", Address: router, PeerASN: 64512, SelfASN: 64513})
	w.within(5*time.Second, "sessions are up", func() bool {
		return established(a.sp.Sessions(), router) && established(b.sp.Sessions(), router)
	})
	return w, a, b
}

func (n *node) probe(r api.ProbeRequest) (api.RouterProbe, error) {
	return n.agent.ProbeRouter(context.Background(), api.Caller{Actor: eventlog.Actor{Name: "root", Auth: "unix"}}, r)
}

func TestAProbeTellsWhatARouterCompares(t *testing.T) {
	noMED := func(x, y projections.Attributes) int {
		return cmp.Or(cmp.Compare(x.Prepend, y.Prepend), cmp.Compare(x.Origin, y.Origin))
	}
	for name, v := range map[string]struct {
		c      *chooser
		result string
		moved  []string // the steps that move it
		text   string
	}{
		"all":           {&chooser{compare: byAll, delay: 60 * time.Millisecond}, api.ResultOK, []string{"origin", "as-path", "med", "all"}, "the router moved 6"},
		"no med":        {&chooser{compare: noMED, delay: time.Millisecond}, api.ResultOK, []string{"origin", "as-path", "all"}, "does not follow med"},
		"echoes":        {&chooser{compare: byAll, delay: 60 * time.Millisecond, echo: true}, api.ResultOK, []string{"origin", "as-path", "med", "all"}, ""},
		"slow":          {&chooser{compare: byAll, delay: 2 * time.Second}, api.ResultWarning, []string{"origin", "as-path", "med", "all"}, "the router moved 2"},
		"no preference": {&chooser{compare: func(_, _ projections.Attributes) int { return 0 }}, api.ResultProblem, nil, "did not move"},
		"mute":          {&chooser{compare: byAll, mute: true}, api.ResultUnknown, nil, "sends nothing back"},
		"strips":        {&chooser{compare: byAll, strip: true}, api.ResultUnknown, nil, "without the community"},
		"route server":  {&chooser{compare: byAll, apart: true}, api.ResultUnknown, nil, "for each neighbor apart"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, a, _ := probed(t, v.c)
				defer w.end()
				got, err := a.probe(api.ProbeRequest{Peer: router})
				if err != nil {
					t.Fatal(err)
				}
				var moved []string
				for _, s := range got.Steps {
					if !s.Moved {
						continue
					}
					moved = append(moved, s.Step)
					// The precision is that of looking; the two nodes are asked one after the other.
					if s.Took < v.c.delay || s.Took > v.c.delay+5*hearEvery {
						t.Errorf("%s took %s at a router that takes %s", s.Step, s.Took, v.c.delay)
					}
				}
				if got.Result != v.result || !slices.Equal(moved, v.moved) || !strings.Contains(got.Text, v.text) {
					t.Errorf("%s, moved by %v: %s", got.Result, moved, got.Text)
				}
				if got.Result != api.ResultOK && got.Fix == "" {
					t.Error("it does not say what to try")
				}
				if v.c.left() != 0 || v.c.most > 2 {
					t.Errorf("%d test routes are left, %d at most", v.c.left(), v.c.most)
				}
				w.within(5*time.Second, "the facts stand in the log", func() bool {
					return slices.Equal(w.types(audit.Query{Types: []string{"router."}}), []string{"router.probe-started", "router.probe-ended"})
				})
			})
		})
	}
}

func TestAProbeIsRefusedWhereItCouldHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chooser{compare: byAll}
		w, a, b := probed(t, c)
		defer w.end()
		prefix := netip.MustParsePrefix("203.0.113.0/32")
		rg, _ := eventlog.ParseRange("203.0.113.0/28")
		refused := func(r api.ProbeRequest, code string) {
			t.Helper()
			_, err := a.probe(r)
			wantClass(t, code, err, api.ClassRefused, code)
		}
		refused(api.ProbeRequest{Peer: netip.MustParseAddr("10.0.0.99")}, "no-such-peer")
		refused(api.ProbeRequest{Peer: router, Prefix: netip.MustParsePrefix("203.0.113.0/24")}, "test-prefix")
		b.sp.Fail(router, "cable")
		refused(api.ProbeRequest{Peer: router}, "session-down")
		b.sp.Establish(router)
		a.must(projections.SetPool{Name: "web", Ranges: []eventlog.Range{rg}})

		// A service comes to use the prefix while it is tested with.
		done := make(chan error, 1)
		go func() {
			_, err := a.probe(api.ProbeRequest{Peer: router, Prefix: prefix})
			done <- err
		}()
		w.within(5*time.Second, "both nodes announce", func() bool { return c.left() == 2 })
		_, err := b.probe(api.ProbeRequest{Peer: router})
		wantClass(t, "a second probe", err, api.ClassUnavailable, "probe-busy")
		b.must(projections.SetService{Name: "one"})
		if err := <-done; err == nil || !strings.Contains(err.Error(), "the service one has that address") {
			t.Errorf("a probe with the address of a service: %v", err)
		}
		if c.left() != 0 {
			t.Error("the test route stands while a service has its address")
		}
		refused(api.ProbeRequest{Peer: router, Prefix: prefix}, "test-in-use")
		b.tester.(*atNode).fail = errors.New("no")
		if _, err := a.probe(api.ProbeRequest{Peer: router}); err == nil || c.left() != 0 {
			t.Errorf("%v, %d test routes left", err, c.left())
		}
	})
}

// Whoever probes may die: the test route goes by itself.
func TestATestRouteThatNobodyAsksAboutGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chooser{compare: byAll}
		w, a, _ := probed(t, c)
		defer w.end()
		base := projections.TestBase()
		r := api.TestRouteRequest{Probe: "1", Peer: router, Prefix: projections.TestPrefix(router), Announce: &base}
		for range 5 { // it is asked about
			if _, err := a.agent.TestRoute(context.Background(), r); err != nil {
				t.Fatal(err)
			}
			time.Sleep(testLease / 2)
		}
		if c.left() != 1 {
			t.Fatal("it went though it was asked about")
		}
		w.within(testLease, "it is withdrawn", func() bool { return c.left() == 0 })
		if _, err := a.agent.TestRoute(context.Background(), api.TestRouteRequest{Probe: "2", Peer: router, Prefix: r.Prefix, Announce: &base}); err != nil {
			t.Errorf("the next probe: %v", err)
		}
	})
}

func TestTheDoctorExaminesBothNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := up(t)
		defer w.end()
		find := func(e api.Examination, code string) (out api.Finding) {
			for _, f := range e.Findings {
				if f.Code == code {
					out = f
				}
			}
			return out
		}
		got := a.agent.Doctor(context.Background(), true)
		if len(got) != 2 || got[0].Node != "node-a" || got[1].Node != "node-b" || got[1].Error != "" {
			t.Fatalf("%+v", got)
		}
		for _, e := range got {
			if f := find(e, "session"); f.Result != api.ResultOK || f.Subject != router.String() {
				t.Errorf("%s: %+v", e.Node, f)
			}
			if f := find(e, "next-hop"); f.Result != api.ResultWarning || f.Fix == "" {
				t.Errorf("%s can take no next hop, as no port has an address: %+v", e.Node, f)
			}
			if len(e.Expect) != 1 || e.Expect[0].Way != api.WayPreference || e.Expect[0].Most != 400*time.Millisecond {
				t.Errorf("%s expects %+v", e.Node, e.Expect)
			}
		}
		if f := find(got[0], "clock"); f.Result != api.ResultOK || f.Subject != "node-b" {
			t.Errorf("%+v", f)
		}
		if f := find(got[0], "release"); f.Result != api.ResultOK {
			t.Errorf("%+v", f)
		}
		b.sp.Fail(router, "the cable")
		if f := find(b.agent.Doctor(context.Background(), false)[0], "session"); f.Result != api.ResultProblem || !strings.Contains(f.Text, "the cable") {
			t.Errorf("%+v", f)
		}
		b.kill()
		if got := a.agent.Doctor(context.Background(), true); got[1].Node != "node-b" || got[1].Error == "" {
			t.Errorf("a dead node: %+v", got)
		}
		b.bury()
	})
}

func TestClocksAreCompared(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for off, result := range map[time.Duration]string{
		0: api.ResultOK, 400 * time.Millisecond: api.ResultOK, -2 * time.Second: api.ResultWarning, time.Minute: api.ResultProblem, -time.Hour: api.ResultProblem,
	} {
		f := skew("node-b", at.Add(5*time.Millisecond+off), at, 10*time.Millisecond)
		if f.Result != result || (f.Fix == "") != (result == api.ResultOK) {
			t.Errorf("off by %s: %+v", off, f)
		}
	}
	if f := skew("node-b", time.Time{}, at, 0); f.Result != api.ResultUnknown {
		t.Errorf("%+v", f)
	}
}
