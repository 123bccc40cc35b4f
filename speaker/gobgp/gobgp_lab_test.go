package gobgp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dyad/projections"
	"dyad/speaker"
	"dyad/speaker/gobgp"
)

func newLabSpeaker(t *testing.T) *gobgp.Speaker {
	t.Helper()
	s, err := gobgp.New(gobgp.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

// labWish has n IPv4 routes and 3 IPv6 routes, at P0, P1, P2 in turn.
func labWish(l *lab, self uint32, hold uint16, n int) speaker.Wish {
	w := speaker.Wish{RouterID: ourID, Routes: []speaker.Route{}, Peers: []speaker.Peer{
		{Address: l.router4, PeerASN: routerASN, SelfASN: self, HoldTime: hold},
		{Address: l.router6, PeerASN: routerASN, SelfASN: self, HoldTime: hold},
	}}
	rungs := []projections.Attributes{better, normal, worse}
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		w.Routes = append(w.Routes, speaker.Route{Peer: l.router4, Prefix: netip.PrefixFrom(a, 32), Attributes: rungs[i%3]})
	}
	for i := range 3 {
		a := netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)})
		w.Routes = append(w.Routes, speaker.Route{Peer: l.router6, Prefix: netip.PrefixFrom(a, 128), Attributes: rungs[i]})
	}
	return w
}

func eachRealRouter(t *testing.T, f func(t *testing.T, l *lab, r realRouter)) {
	for _, r := range realRouters {
		t.Run(r.name, func(t *testing.T) { f(t, newLab(t, r.programs...), r.make()) })
	}
}

// expectLearned compares what a router learned; LOCAL_PREF only where it counts.
func expectLearned(t *testing.T, l *lab, r realRouter, prefix string, want learned) {
	t.Helper()
	got, ok := r.route(l, prefix)
	if !ok {
		t.Fatalf("the router does not have %s", prefix)
	}
	if want.localPref == 0 {
		got.localPref = 0
	}
	if got != want {
		t.Errorf("%s: the router learned %+v, want %+v", prefix, got, want)
	}
}

func TestLabRoutesArriveAsSent(t *testing.T) {
	eachRealRouter(t, func(t *testing.T, l *lab, r realRouter) {
		const n = 1000
		r.start(l, labConf{asn: routerASN, expects: ourASN, hold: 90})
		s := newLabSpeaker(t)
		w := labWish(l, ourASN, 30, n)
		start := time.Now()
		if c := mustSet(t, s, w); c.Announced != n+3 {
			t.Fatalf("%+v", c)
		}
		set := time.Since(start)
		awaitUp(t, s, l.router4, l.router6)
		up := time.Since(start)
		await(t, "all routes are in the router", func() bool { return r.count(l) == n })
		t.Logf("Set of %d routes %v, sessions up after %v, all in the router after %v (as asked by its command line)",
			n, set, up, time.Since(start))

		our4, our6 := l.our4.String(), l.our6.String()
		expectLearned(t, l, r, "10.0.0.0/32", learned{asPath: "64513", origin: "igp", nextHop: our4})
		expectLearned(t, l, r, "10.0.0.1/32", learned{asPath: "64513 64513", origin: "incomplete", med: 100, nextHop: our4})
		expectLearned(t, l, r, "10.0.0.2/32", learned{asPath: "64513 64513 64513", origin: "incomplete", med: 200, shutdown: true, nextHop: our4})
		await(t, "IPv6 is there", func() bool { _, ok := r.route(l, "fd00::2/128"); return ok })
		expectLearned(t, l, r, "fd00::/128", learned{asPath: "64513", origin: "igp", nextHop: our6})
		expectLearned(t, l, r, "fd00::2/128", learned{asPath: "64513 64513 64513", origin: "incomplete", med: 200, shutdown: true, nextHop: our6})
		if h := r.hold(l); h != 30 || sessionOf(s, l.router4).HoldTime != 30 {
			t.Errorf("hold time: the router says %d, we say %d, want 30", h, sessionOf(s, l.router4).HoldTime)
		}
		if v := sessionOf(s, l.router4); v.Advertised != n {
			t.Errorf("%+v", v)
		}

		// Takeover: everything to P0. Replaced, never withdrawn.
		before := r.withdrawals(l)
		for i := range w.Routes {
			w.Routes[i].Attributes = better
		}
		start = time.Now()
		if c := mustSet(t, s, w); c.Changed != n+3-n/3-2 || c.Announced+c.Withdrawn != 0 {
			t.Fatalf("%+v", c)
		}
		set = time.Since(start)
		await(t, "the change is in the router", func() bool {
			v, _ := r.route(l, "10.0.3.230/32") // the last one that changes
			return v.asPath == "64513"
		})
		t.Logf("change of 667 routes: Set %v, in the router after %v", set, time.Since(start))
		expectLearned(t, l, r, "10.0.0.2/32", learned{asPath: "64513", origin: "igp", nextHop: our4})
		if after := r.withdrawals(l); after != before || r.count(l) != n {
			t.Errorf("a change withdrew %d prefixes; %d are left", after-before, r.count(l))
		}

		w.Routes = slices.DeleteFunc(w.Routes, func(r speaker.Route) bool { return r.Prefix.Addr().As16()[15]%2 == 0 })
		if c := mustSet(t, s, w); c.Withdrawn != n/2+2 {
			t.Fatalf("%+v", c)
		}
		await(t, "half of the routes are gone", func() bool { return r.count(l) == n/2 })
		if _, ok := r.route(l, "10.0.0.2/32"); ok {
			t.Error("10.0.0.2/32 is still in the router")
		}

		// A peer alone is removed: its routes go, the other session stays.
		since := sessionOf(s, l.router6).Since
		w.Peers = w.Peers[1:]
		mustSet(t, s, w)
		await(t, "the routes of the removed peer are gone", func() bool { return r.count(l) == 0 })
		if v := sessionOf(s, l.router6); v.State != speaker.Established || v.Since != since {
			t.Errorf("the other session was touched: %+v", v)
		}
	})
}

func TestLabARestartedRouterIsBackSoon(t *testing.T) {
	eachRealRouter(t, func(t *testing.T, l *lab, r realRouter) {
		conf := labConf{asn: routerASN, expects: ourASN, hold: 90}
		r.start(l, conf)
		s := newLabSpeaker(t)
		mustSet(t, s, labWish(l, ourASN, 90, 10))
		awaitUp(t, s, l.router4, l.router6)
		l.stop(syscall.SIGKILL)
		await(t, "the loss is seen", func() bool { return sessionOf(s, l.router4).State != speaker.Established })
		t.Logf("seen: %s", sessionOf(s, l.router4).LastError)
		r.start(l, conf)
		start := time.Now()
		awaitUp(t, s, l.router4)
		took := time.Since(start)
		await(t, "the routes are back", func() bool { return r.count(l) == 10 })
		t.Logf("back %v after the router", took)
		if took > 8*time.Second {
			t.Errorf("back only %v after the router", took)
		}
	})
}

func TestLabWrongASNsAreToldInWords(t *testing.T) {
	eachRealRouter(t, func(t *testing.T, l *lab, r realRouter) {
		for _, c := range []struct {
			conf labConf
			want []string
		}{
			{labConf{asn: routerASN, expects: 64999, hold: 90}, []string{"Bad Peer AS (2/2)", "another ASN than ours, 64513"}},
			{labConf{asn: 64998, expects: ourASN, hold: 90}, []string{"Bad Peer AS (2/2)", "64512"}},
		} {
			r.start(l, c.conf)
			s := newLabSpeaker(t)
			mustSet(t, s, labWish(l, ourASN, 90, 1))
			var v speaker.Session
			ok := func() bool {
				v = sessionOf(s, l.router4)
				for _, part := range c.want {
					if !strings.Contains(v.LastError, part) {
						return false
					}
				}
				return true
			}
			limit := time.NewTimer(30 * time.Second)
			tick := time.NewTicker(20 * time.Millisecond)
			for done := false; !done && !ok(); {
				select {
				case <-tick.C:
				case <-limit.C:
					t.Errorf("%+v: told %q, want %q", c.conf, v.LastError, c.want)
					done = true
				}
			}
			limit.Stop()
			tick.Stop()
			t.Logf("%+v: %s", c.conf, v.LastError)
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			l.stop(syscall.SIGTERM)
		}
	})
}

func TestLabInternalPeersGetLocalPref(t *testing.T) {
	eachRealRouter(t, func(t *testing.T, l *lab, r realRouter) {
		r.start(l, labConf{asn: routerASN, expects: routerASN, hold: 90})
		s := newLabSpeaker(t)
		mustSet(t, s, labWish(l, routerASN, 90, 3))
		awaitUp(t, s, l.router4, l.router6)
		await(t, "the routes are there", func() bool { return r.count(l) == 3 })
		for i, want := range []learned{
			{origin: "igp", localPref: 300},
			{origin: "incomplete", med: 100, localPref: 200},
		} {
			want.nextHop = l.our4.String()
			expectLearned(t, l, r, fmt.Sprintf("10.0.0.%d/32", i), want)
		}
	})
}

// A GoBGP server in the same process would do as the router, but starting
// another one writes package variables that the running one reads.
func TestLabANewRouterIDRenewsTheSessions(t *testing.T) {
	l := newLab(t, "ip", "bird", "birdc")
	bird{}.start(l, labConf{asn: routerASN, expects: ourASN, hold: 90})
	s := newLabSpeaker(t)
	w := labWish(l, ourASN, 90, 5)
	mustSet(t, s, w)
	awaitUp(t, s, l.router4, l.router6)
	await(t, "the routes are there", func() bool { return bird{}.count(l) == 5 })
	w.RouterID, w.Routes = netip.MustParseAddr("10.255.0.77"), nil
	mustSet(t, s, w)
	await(t, "the router sees the new identifier and the same routes", func() bool {
		return strings.Contains(birdAsk(l, "show", "protocols", "all", "up4"), "10.255.0.77") && bird{}.count(l) == 5
	})
}
