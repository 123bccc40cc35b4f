package detect

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

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
	inputs []failover.Input
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
		Keys: [][]byte{make([]byte, 32)}, Emit: n.emit, Log: slog.New(slog.DiscardHandler), Now: time.Now,
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
	if _, ok := in.(failover.Tick); !ok {
		n.inputs = append(n.inputs, in)
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

// forget returns what the detector emitted since the last call.
func (n *member) forget() []failover.Input {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.inputs
	n.inputs = nil
	return out
}

func (n *member) verdict(node string) projections.Verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m.View().Nodes[node]
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

// bound is the worst case of the formula in detector.go with the defaults, on a
// node that keeps up. slack is for the network, and for looking once in 1 ms.
const (
	bound = 2*DefaultProbeInterval + DefaultProbeInterval + DefaultSuspicionMult*DefaultProbeInterval
	slack = 5 * time.Millisecond
)

func TestTwoHundredFailovers(t *testing.T) {
	var took []time.Duration
	rng := rand.New(rand.NewPCG(1, 2))
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(1)
		net.SetDelay(200 * time.Microsecond)
		a, b := pair(t, net)
		for i := range 200 {
			time.Sleep(time.Duration(rng.Int64N(int64(bound))))
			b.kill()
			took = append(took, within(t, bound+slack, fmt.Sprintf("death %d is seen", i), func() bool {
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
	t.Logf("silent death: min %s, median %s, p95 %s, max %s", took[0], took[len(took)/2], took[len(took)*95/100], took[len(took)-1])
}

// Nobody dies, leaves or comes in a long quiet run. A report may be told again:
// the full exchange of state repeats what gossip said.
func TestNoFalseDeathInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(7)
		net.SetDelay(2 * time.Millisecond)
		a, b := pair(t, net)
		time.Sleep(time.Second)
		a.forget()
		b.forget()
		time.Sleep(30 * time.Minute)
		got := slices.DeleteFunc(append(a.forget(), b.forget()...), func(in failover.Input) bool {
			_, again := in.(failover.PeerReport)
			return again
		})
		if len(got) > 0 {
			t.Errorf("half an hour without a fault: %v", got)
		}
		end(a, b)
	})
}

// A lost datagram is no death: the suspicion is refuted in time. Chance may still
// string several losses together, but not often.
func TestSuspicionIsRefuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(8)
		net.SetDelay(300 * time.Microsecond)
		a, b := pair(t, net)
		net.SetLoss(0.01)
		a.forget()
		b.forget()
		time.Sleep(10 * time.Minute)
		if n := deaths(a) + deaths(b); n > 1 {
			t.Errorf("%d false deaths in 10 minutes with 1 %% loss", n)
		}
		net.SetLoss(0)
		const blackouts = 100
		for i := range blackouts {
			net.Cut(a.at, b.at)
			time.Sleep(DefaultProbeInterval)
			net.Heal(a.at, b.at)
			time.Sleep(2*time.Second + time.Duration(i*37%100)*time.Millisecond)
		}
		if n := deaths(a) + deaths(b); n > blackouts/20 {
			t.Errorf("%d false deaths in %d blackouts of %s", n, blackouts, DefaultProbeInterval)
		}
		end(a, b)
	})
}

// deaths counts what the detector declared since the last look.
func deaths(n *member) (k int) {
	for _, in := range n.forget() {
		if _, ok := in.(failover.PeerSilent); ok {
			k++
		}
	}
	return k
}

// One direction is enough to lose the pair; both directions bring it back.
func TestOneWayCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(9)
		a, b := pair(t, net)
		net.CutOneWay(a.at, b.at)
		within(t, 2*bound, "both take over", func() bool {
			return a.stance() == projections.StanceTakeover && b.stance() == projections.StanceTakeover
		})
		time.Sleep(time.Minute)
		net.Heal(a.at, b.at)
		within(t, 30*time.Second, "both go back", func() bool { return a.well() && b.well() })
		end(a, b)
	})
}

// A node says goodbye without having reported that it stops: it has left all the
// same. Without a goodbye it is dead, with the readings that say so.
func TestLeavingIsNotDying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(10)
		a, b := pair(t, net)
		if got := fmt.Sprint(a.d.Members(), b.d.Members()); got != "[a b] [a b]" {
			t.Errorf("members: %s", got)
		}
		if err := b.d.Leave(); err != nil {
			t.Error(err)
		}
		b.kill()
		time.Sleep(time.Second)
		if v := a.verdict("b"); v != projections.Left {
			t.Errorf("b said goodbye, and is %s", v)
		}
		if b.d.Leave() == nil {
			t.Error("a closed detector said goodbye")
		}
		b = start(t, net, "b", "b2")
		within(t, 30*time.Second, "b is back", func() bool { return a.well() && b.well() })
		a.forget()
		b.kill()
		within(t, bound+slack, "b is dead", func() bool { return a.verdict("b") == projections.DeadMember })
		death, ok := a.forget()[0].(failover.PeerSilent)
		(*delegate)(a.d).NotifyMsg([]byte(`{"w":"b","b":"b2","s":"normal","r":true,"n":999}`))
		if got := a.forget(); len(got) != 0 || a.verdict("b") != projections.DeadMember {
			t.Errorf("a late word raised the dead: %v", got)
		}
		if !ok || death.Silence < bound-2*DefaultProbeInterval || death.Silence > bound+DefaultProbeInterval {
			t.Errorf("%+v", death)
		}
		for _, k := range []string{"last_heard", "silence_ms", "probe_interval_ms", "probe_timeout_ms", "suspicion_mult", "health_score"} {
			if _, ok := death.Evidence[k]; !ok {
				t.Errorf("the evidence lacks %s: %v", k, death.Evidence)
			}
		}
		end(a)
	})
}

// Streams hang when the way back is cut; the next report still goes out at once.
func TestReportsDoNotQueueBehindStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(11)
		a, b := pair(t, net)
		time.Sleep(time.Second)
		net.CutOneWay(a.at, b.at)
		for i := range uint64(3) {
			a.forget()
			b.d.Announce(failover.Report{Node: "b", Boot: "b1", N: 100 + i})
			time.Sleep(5 * time.Millisecond)
			if got := a.forget(); len(got) == 0 {
				t.Errorf("report %d waits", i)
			}
		}
		end(a, b)
	})
}

// A crash and restart within the time it takes to notice is told by the new boot,
// and damped like a death.
func TestRestartFasterThanDetection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(12)
		a, b := pair(t, net)
		time.Sleep(time.Second)
		b.kill()
		time.Sleep(20 * time.Millisecond)
		b = start(t, net, "b", "b2")
		within(t, 5*time.Second, "a carries the traffic", func() bool { return a.stance() == projections.StanceTakeover })
		back := within(t, 20*time.Second, "a goes back", a.well)
		if back < 4*time.Second {
			t.Errorf("a went back after %s, as if nothing had happened", back)
		}
		within(t, 20*time.Second, "b is well", b.well)
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
// killed node is declared dead, and nothing is left running.
func TestRealSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("opens sockets")
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	inputs := make(chan failover.Input, 256)
	open := func(name, ip string, peers ...string) *Detector {
		d, err := New(Config{
			Node: name, Addr: netip.MustParseAddr(ip), Port: 17946, Peers: peers, Keys: [][]byte{make([]byte, 32)},
			Emit: func(in failover.Input) {
				if name == "a" {
					inputs <- in
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	a := open("a", "127.0.77.1")
	defer a.Close()
	var took []time.Duration
	for i := range realDeaths {
		b := open("b", "127.0.77.2", "127.0.77.1:17946")
		expect(t, inputs, func(in failover.Input) bool { _, ok := in.(failover.PeerAlive); return ok })
		said := time.Now()
		b.Announce(failover.Report{Node: "b", Boot: fmt.Sprint("b", i), N: 1, Ready: true})
		expect(t, inputs, func(in failover.Input) bool { r, ok := in.(failover.PeerReport); return ok && r.Report.Ready })
		heard := time.Since(said)
		<-time.After(5 * DefaultProbeInterval) // a's probes succeed again, and its health is 0
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		died := time.Now()
		expect(t, inputs, func(in failover.Input) bool { _, ok := in.(failover.PeerSilent); return ok })
		took = append(took, time.Since(died))
		t.Logf("report heard after %s, death declared after %s", heard, took[i])
	}
	slices.Sort(took)
	t.Logf("silent death on loopback: min %s, median %s, max %s", took[0], took[len(took)/2], took[len(took)-1])
	if took[0] > bound {
		t.Errorf("no death was declared within %s; is the machine this busy?", bound)
	}
}

// realDeaths are enough to see the order of magnitude; virtual time has the
// distribution.
const realDeaths = 3

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
