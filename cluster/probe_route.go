package cluster

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/projections"
	"dyad/speaker"
)

// Bounds of a node's part in a router's probe.
const (
	// testLease is how long a test route stands without being asked about: whoever
	// probes may die.
	testLease = 10 * time.Second
	// hearEvery is how often the speaker is asked what the router sends; it bounds
	// the precision of what is measured.
	hearEvery = time.Millisecond
	// untestBound bounds a withdrawal.
	untestBound = 2 * time.Second
)

// tests are the test routes that this node announces. There is one at a time.
type tests struct {
	a *Agent

	mu     sync.Mutex
	probe  string // whose it is; empty: none
	peer   netip.Addr
	prefix netip.Prefix
	until  time.Time
	wake   chan struct{} // room for one
}

func newTests(a *Agent) *tests { return &tests{a: a, wake: make(chan struct{}, 1)} }

// TestRoute implements [api.Backend].
//
// Invariant: what a service uses is never tested with, also not when it came to
// be used meanwhile.
func (a *Agent) TestRoute(ctx context.Context, r api.TestRouteRequest) (api.TestRouteAnswer, error) {
	if a.p.Tester == nil {
		return api.TestRouteAnswer{}, &api.Error{
			Class: api.ClassFailed, Code: "no-tester", What: "test route", Why: "this node has no speaker that could", Fix: "upgrade dyad on " + a.p.Config.Node,
		}
	}
	r.Peer = r.Peer.Unmap()
	if err := a.tests.claim(r); err != nil {
		return api.TestRouteAnswer{}, err
	}
	if r.End {
		return api.TestRouteAnswer{}, a.tests.end(ctx, r.Probe)
	}
	s := a.State()
	if refused := projections.CheckTest(s, r.Peer, r.Prefix); refused != nil {
		return api.TestRouteAnswer{}, errors.Join(refused, a.tests.end(ctx, r.Probe))
	}
	began := a.p.Now()
	if r.Announce != nil {
		at := *r.Announce
		at.Communities = append(slices.Clone(at.Communities), projections.TestMark(s, a.p.Config.Node))
		if err := a.p.Tester.Test(ctx, speaker.Route{Peer: r.Peer, Prefix: r.Prefix, Attributes: at}); err != nil {
			return api.TestRouteAnswer{}, errors.Join(err, a.tests.end(ctx, r.Probe))
		}
	}
	return a.hear(ctx, s, r, began)
}

// hear waits for what is asked for.
func (a *Agent) hear(ctx context.Context, s projections.State, r api.TestRouteRequest, began time.Time) (api.TestRouteAnswer, error) {
	mark := projections.TestMark(s, a.p.Config.Node)
	limit := time.NewTimer(r.Wait)
	defer limit.Stop()
	tick := time.NewTicker(hearEvery)
	defer tick.Stop()
	for {
		h, err := a.p.Tester.Heard(r.Peer, r.Prefix)
		if err != nil {
			return api.TestRouteAnswer{}, err
		}
		ans := a.whose(s, h, mark)
		ans.Met = r.Until == "" || ans.Theirs == (r.Until == api.UntilTheirs)
		ans.Took = a.p.Now().Sub(began)
		if ans.Met {
			return ans, nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return ans, nil
		case <-ctx.Done():
			return ans, ctx.Err()
		}
	}
}

// whose tells whose path a router sent: its community says it, and where the
// router takes communities away, a next hop that it kept.
func (a *Agent) whose(s projections.State, h speaker.Heard, mark uint32) (ans api.TestRouteAnswer) {
	if !h.There {
		return ans
	}
	for _, name := range s.NodeNames() {
		if slices.Contains(h.Communities, projections.TestMark(s, name)) {
			ans.Ours, ans.Theirs = mark == projections.TestMark(s, name), mark != projections.TestMark(s, name)
			return ans
		}
	}
	for _, sw := range s.Switches {
		for _, port := range sw.Ports {
			if slices.ContainsFunc(port.Addresses, func(p netip.Prefix) bool { return p.Addr() == h.NextHop }) {
				ans.Ours, ans.Theirs = port.Node == a.p.Config.Node, port.Node != a.p.Config.Node
				return ans
			}
		}
	}
	ans.Unmarked = true
	return ans
}

// claim makes the test route that of a probe, and keeps it for a while.
func (t *tests) claim(r api.TestRouteRequest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Probe == "" || t.probe != "" && (t.probe != r.Probe || t.peer != r.Peer || t.prefix != r.Prefix) {
		return &api.Error{
			Class: api.ClassUnavailable, Code: "probe-busy", What: "probe of " + r.Peer.String(),
			Why: "another probe announces a test route on " + t.a.p.Config.Node, Fix: "repeat it in a moment",
		}
	}
	t.probe, t.peer, t.prefix, t.until = r.Probe, r.Peer, r.Prefix, t.a.p.Now().Add(testLease+r.Wait)
	select {
	case t.wake <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

// end withdraws the test route of a probe; of any, if it is empty.
func (t *tests) end(ctx context.Context, probe string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.probe == "" || probe != "" && probe != t.probe {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), untestBound)
	defer cancel()
	if err := t.a.p.Tester.Untest(ctx, t.peer, t.prefix); err != nil {
		t.a.p.Logger.Error("a test route is not withdrawn", "event", "probe.end", "reason", err, "peer", t.peer, "prefix", t.prefix)
		return err
	}
	t.probe = ""
	return nil
}

// left is how long the test route may still stand; ok is false if there is none.
func (t *tests) left() (d time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until.Sub(t.a.p.Now()), t.probe != ""
}

// run withdraws test routes that nobody asks about any more, and the last one at
// the end.
func (t *tests) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		d, any := t.left()
		if any && d <= 0 {
			if err := t.end(ctx, ""); err != nil {
				d = untestBound
			} else {
				any = false
			}
		}
		if !any {
			d = time.Hour
		}
		timer.Reset(d)
		select {
		case <-t.wake:
		case <-timer.C:
		case <-ctx.Done():
			_ = t.end(ctx, "") // it was logged; the session ends next
			return
		}
	}
}
