package detect

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dyad/failover"
	"dyad/failover/detect/memnet"
	"dyad/projections"
)

// member is one node of a pair in virtual time: the real machine behind the
// real memberlist on a network in memory.
type member struct {
	name string
	at   netip.AddrPort
	d    *Detector

	mu     sync.Mutex
	m      *failover.Machine
	timer  *time.Timer
	log    []string // stances in order
	silent time.Time
}

var addrs = map[string]netip.AddrPort{
	"a": netip.MustParseAddrPort("10.0.0.1:7946"), "b": netip.MustParseAddrPort("10.0.0.2:7946"),
}

func start(t *testing.T, net *memnet.Network, name, boot string) *member {
	t.Helper()
	n := &member{name: name, at: addrs[name]}
	n.m = failover.New(failover.Config{Self: name, Boot: boot, FailbackDelay: 5 * time.Second, FailbackMax: 5 * time.Second}, time.Now())
	n.timer = time.AfterFunc(time.Hour, func() { n.emit(failover.Tick{}) })
	other := addrs["b"]
	if name == "b" {
		other = addrs["a"]
	}
	d, err := New(Config{
		Node: name, Addr: n.at.Addr(), Port: int(n.at.Port()), Transport: net.Join(n.at), Peers: []string{other.String()},
		SecretKey: make([]byte, 32), Emit: n.emit, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.d = d
	n.mu.Unlock()
	n.emit(failover.Synced{OK: true})
	return n
}

func (n *member) emit(in failover.Input) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := in.(failover.PeerSilent); ok {
		n.silent = time.Now()
	}
	before := n.m.View().Stance
	o := n.m.Step(time.Now(), in)
	if o.View.Stance != before {
		n.log = append(n.log, string(o.View.Stance))
	}
	if !o.WakeAt.IsZero() {
		n.timer.Reset(time.Until(o.WakeAt))
	}
	if o.ReportChanged && n.d != nil {
		n.d.Announce(o.Report)
	}
}

func (n *member) stance() projections.Stance {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m.View().Stance
}

func (n *member) kill() {
	n.timer.Stop()
	_ = n.d.Close()
}

// end stops nodes and gives memberlist's last timers the time to fire.
func end(nodes ...*member) {
	for _, n := range nodes {
		n.kill()
	}
	time.Sleep(time.Minute)
}

// within waits in virtual time for a level.
func within(t *testing.T, d time.Duration, what string, level func() bool) time.Duration {
	t.Helper()
	from := time.Now()
	for !level() {
		if time.Since(from) > d {
			t.Fatalf("not within %s: %s", d, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(from)
}

func pair(t *testing.T, net *memnet.Network) (a, b *member) {
	t.Helper()
	a, b = start(t, net, "a", "a1"), start(t, net, "b", "b1")
	within(t, 5*time.Second, "both are normal and know each other", func() bool {
		return a.well() && b.well()
	})
	return a, b
}

func (n *member) well() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.m.View()
	return v.Stance == projections.StanceNormal && v.Reason.Code == "normal"
}

// bound is the worst case of the formula in detector.go with the defaults.
const bound = 2*DefaultProbeInterval + DefaultProbeInterval*(1+maxHealth) + DefaultSuspicionMult*DefaultProbeInterval

func TestTwoHundredFailovers(t *testing.T) {
	var took []time.Duration
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(1)
		net.SetDelay(200 * time.Microsecond)
		a, b := pair(t, net)
		for i := range 200 {
			time.Sleep(time.Duration(i*37%400) * time.Millisecond)
			b.kill()
			took = append(took, within(t, bound+20*time.Millisecond, fmt.Sprintf("death %d is seen", i), func() bool {
				return a.stance() == projections.StanceTakeover
			}))
			time.Sleep(time.Second)
			b = start(t, net, "b", fmt.Sprintf("b%d", i+2))
			back := within(t, 20*time.Second, "failback", a.well)
			if back < 5*time.Second {
				t.Fatalf("failback after %s, before the delay", back)
			}
		}
		end(a, b)
	})
	slices.Sort(took)
	t.Logf("silent death: min %s, median %s, max %s", took[0], took[len(took)/2], took[len(took)-1])
}

func TestQuietPairStaysQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(2)
		net.SetLoss(0.02)
		a, b := pair(t, net)
		aLog, bLog := len(a.log), len(b.log)
		time.Sleep(30 * time.Second)
		net.SetLoss(0)
		time.Sleep(10 * time.Minute)
		if len(a.log) > aLog+4 || len(b.log) > bLog+4 {
			t.Errorf("a %v, b %v", a.log, b.log)
		}
		if !a.well() || !b.well() {
			t.Error("the pair did not come to rest")
		}
		end(a, b)
	})
}

func TestPlannedStopHandsOverFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(3)
		a, b := pair(t, net)
		b.emit(failover.Stopping{})
		took := within(t, 100*time.Millisecond, "a takes over while b still announces", func() bool {
			return a.stance() == projections.StanceTakeover
		})
		if s := b.stance(); s != projections.StanceStepDown {
			t.Errorf("b is at %s when a takes over", s)
		}
		t.Logf("handover told in %s", took)
		_ = b.d.Leave()
		b.kill()
		within(t, time.Second, "b has left", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.m.View().Nodes["b"] == projections.Left
		})
		end(a)
	})
}

func TestInterconnectCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(4)
		a, b := pair(t, net)
		net.Cut(a.at, b.at)
		within(t, 2*bound, "both take over", func() bool {
			return a.stance() == projections.StanceTakeover && b.stance() == projections.StanceTakeover
		})
		time.Sleep(time.Minute)
		net.Heal(a.at, b.at)
		within(t, 30*time.Second, "both go back", func() bool { return a.well() && b.well() })
		before := len(a.log) + len(b.log)
		time.Sleep(5 * time.Minute)
		if after := len(a.log) + len(b.log); after != before {
			t.Errorf("the pair oscillates: a %v, b %v", a.log, b.log)
		}
		end(a, b)
	})
}

// The same over real sockets on loopback: found each other, reports arrive, a
// killed node is declared dead.
func TestRealSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("opens sockets")
	}
	inputs := make(chan failover.Input, 256)
	open := func(name, ip string, peers ...string) *Detector {
		d, err := New(Config{
			Node: name, Addr: netip.MustParseAddr(ip), Port: 17946, Peers: peers, SecretKey: make([]byte, 32),
			Emit: func(in failover.Input) {
				if name == "a" {
					inputs <- in
				}
			},
			Log: slog.New(slog.DiscardHandler), Now: time.Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a := open("a", "127.0.77.1")
	defer a.Close()
	b := open("b", "127.0.77.2", "127.0.77.1:17946")
	expect(t, inputs, func(in failover.Input) bool { _, ok := in.(failover.PeerAlive); return ok })
	b.Announce(failover.Report{Node: "b", Boot: "b1", N: 1, Ready: true})
	expect(t, inputs, func(in failover.Input) bool { r, ok := in.(failover.PeerReport); return ok && r.Report.Ready })
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	expect(t, inputs, func(in failover.Input) bool {
		s, ok := in.(failover.PeerSilent)
		if ok {
			t.Logf("declared dead after %s of silence", s.Silence)
		}
		return ok
	})
}

func expect(t *testing.T, inputs <-chan failover.Input, want func(failover.Input) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case in := <-inputs:
			if want(in) {
				return
			}
		case <-deadline:
			t.Fatal("the expected input did not come")
		}
	}
}
