package projections

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"dyad/eventlog"
)

func normal(self string) View {
	return View{Self: self, Stance: StanceNormal, Reason: Reason{"normal", "both nodes are well"}}
}

func one(t *testing.T, s State, v View, service string) Announcement {
	t.Helper()
	for _, a := range Desired(s, v) {
		if a.Service == service {
			return a
		}
	}
	t.Fatalf("%s is not accounted for", service)
	return Announcement{}
}

func TestLadder(t *testing.T) {
	w := peered(t)
	w.do(SetService{Name: "a", Prefer: "node-a"}, SetService{Name: "both", Placement: eventlog.ActiveActive})
	take := normal("node-b")
	take.Stance = StanceTakeover
	down := normal("node-b")
	down.Stance = StanceStepDown
	for _, tc := range []struct {
		name    string
		v       View
		service string
		want    Attributes
		rung    Rung
	}{
		{"preferred", normal("node-a"), "a", Attributes{Origin: 2, Prepend: 1, MED: 50, LocalPref: 210}, P1},
		{"standby", normal("node-b"), "a", Attributes{Origin: 2, Prepend: 1, MED: 100, LocalPref: 200}, P1},
		{"active-active", normal("node-b"), "both", Attributes{Origin: 2, Prepend: 1, MED: 100, LocalPref: 200}, P1},
		{"takeover", take, "a", Attributes{Origin: 0, LocalPref: 300}, P0},
		{"step-down", down, "both", Attributes{Origin: 2, Prepend: 2, MED: 200, LocalPref: 50, Communities: []uint32{65535 << 16}}, P2},
	} {
		a := one(t, w.s, tc.v, tc.service)
		if !a.Announced || a.Rung != tc.rung || !a.Attributes.Equal(tc.want) {
			t.Errorf("%s: %+v, want %s %+v", tc.name, a, tc.rung, tc.want)
		}
	}
}

// Whatever a router compares first, a higher rung must not lose on it.
func TestEveryAttributeMovesTogether(t *testing.T) {
	better := func(a, b Attributes) bool {
		return a.LocalPref > b.LocalPref && a.Prepend < b.Prepend && a.MED < b.MED && a.Origin <= b.Origin
	}
	best1 := ladder[P1]
	best1.MED, best1.LocalPref = preferredMED, preferredLocalPref
	if !better(ladder[P0], best1) || !better(ladder[P1], ladder[P2]) {
		t.Error("a rung of the ladder loses on some attribute")
	}
	if ladder[P0].Origin >= ladder[P1].Origin {
		t.Error("P0 must win on ORIGIN alone, where MED is not compared")
	}
}

func TestWithheldAddressesSayWhy(t *testing.T) {
	w := peered(t)
	w.do(SetService{Name: "a"}, SetPool{Name: "six", Ranges: rng(t, "2001:db8::/64")}, SetService{Name: "v6", Pool: "six"})
	if a := one(t, w.s, normal("node-a"), "v6"); a.Announced || a.Reason.Code != "no-peer-of-family" {
		t.Errorf("IPv6 without an IPv6 peer: %+v", a)
	}
	sick := normal("node-a")
	sick.Unhealthy = map[string]string{"a": "connection refused"}
	if a := one(t, w.s, sick, "a"); a.Announced || a.Reason.Code != "check-failed" {
		t.Errorf("with a failing check: %+v", a)
	}
	silent := normal("node-a")
	silent.Stance, silent.Reason = StanceSilent, Reason{"stopped", "the agent stops"}
	if a := one(t, w.s, silent, "a"); a.Announced || a.Reason.Code != "stopped" {
		t.Errorf("silent: %+v", a)
	}
	if a := one(t, w.s, normal("node-z"), "a"); a.Announced || a.Reason.Code != "no-port" {
		t.Errorf("a node without a port: %+v", a)
	}
	w.do(RemovePeer{"vSwitch1", addr("10.126.77.125")})
	if a := one(t, w.s, normal("node-z"), "a"); a.Announced || a.Reason.Code != "no-port" || a.Protocol != ARP {
		t.Errorf("without a port: %+v", a)
	}
	bare := w.s
	bare.Switches = map[string]eventlog.Switch{"vSwitch1": {Name: "vSwitch1", Compute: true}}
	if a := one(t, bare, normal("node-a"), "a"); a.Announced || a.Reason.Code != "no-interface" {
		t.Errorf("without an interface: %+v", a)
	}
	w.do(DeclareSwitch{eventlog.Switch{Name: "vSwitch1"}})
	if a := one(t, w.s, normal("node-a"), "a"); a.Announced || a.Reason.Code != "no-switch" {
		t.Errorf("without a compute switch: %+v", a)
	}
}

func TestDiff(t *testing.T) {
	w := peered(t)
	w.do(SetService{Name: "a"}, SetService{Name: "b"})
	before := Desired(w.s, normal("node-a"))
	if d := Diff(before, before); len(d) != 0 {
		t.Errorf("nothing changed, but %v", d)
	}
	w.do(RemoveService{"a"}, SetService{Name: "b", Prefer: "node-a"}, SetService{Name: "c", Addresses: []netip.Addr{addr("203.0.113.9")}})
	var ops []string
	for _, c := range Diff(before, Desired(w.s, normal("node-a"))) {
		ops = append(ops, c.Op)
	}
	if !slices.Equal(ops, []string{"-", "~", "+"}) {
		t.Errorf("diff %v, want - ~ +", ops)
	}
}

func TestExplain(t *testing.T) {
	w := peered(t)
	w.do(SetService{Name: "a"})
	for a, want := range map[string]string{
		"10.126.77.11": "node address", "10.126.77.125": "router", "8.8.8.8": "no pool",
		"203.0.113.9": "free", "203.0.113.0": "service a",
	} {
		lines, _, _, _ := Explain(w.s, normal("node-a"), addr(a))
		if len(lines) == 0 || !contains(lines, want) {
			t.Errorf("explain %s: %q lacks %q", a, lines, want)
		}
	}
}

func contains(lines []string, part string) bool {
	return slices.ContainsFunc(lines, func(l string) bool {
		for i := 0; i+len(part) <= len(l); i++ {
			if l[i:i+len(part)] == part {
				return true
			}
		}
		return false
	})
}

// large builds a state of n services.
func large(tb testing.TB, n int) State {
	w := peered(tb)
	r, _ := eventlog.ParseRange("100.64.0.0/16")
	w.do(SetPool{Name: "large", Ranges: []eventlog.Range{r}})
	for at := 0; at < n; at += 1000 {
		var cmds []Command
		for i := at; i < min(n, at+1000); i++ {
			cmds = append(cmds, SetService{Name: fmt.Sprintf("s%d", i), Pool: "large"})
		}
		w.do(Apply{cmds})
	}
	return w.s
}

func BenchmarkFold100k(b *testing.B) {
	w := peered(b)
	base := w.s
	var drafts []eventlog.Draft
	for i := range 100_000 {
		a := addr("100.64.0.0")
		buf := a.As4()
		buf[2], buf[3] = byte(i%1000/256), byte(i%1000)
		d, err := eventlog.NewDraft(eventlog.TypeServiceSet, "service/x", eventlog.Service{
			Name: fmt.Sprintf("s%d", i%1000), Pool: "web", Addresses: []netip.Addr{netip.AddrFrom4(buf)},
			Placement: eventlog.ActiveStandby, Preferred: "node-a", Pinned: i%2 == 0,
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
		drafts = append(drafts, d)
	}
	envs := seal(b, base.Head, drafts...)
	for b.Loop() {
		s := base
		for at := 0; at < len(envs); at += eventlog.MaxPage {
			s = Fold(s, envs[at:min(len(envs), at+eventlog.MaxPage)]...)
		}
		if len(s.Services) != 1000 {
			b.Fatal(len(s.Services))
		}
	}
}

func BenchmarkDesired1k(b *testing.B)  { benchDesired(b, 1000) }
func BenchmarkDesired10k(b *testing.B) { benchDesired(b, 10000) }

func benchDesired(b *testing.B, n int) {
	s := large(b, n)
	v := normal("node-a")
	for b.Loop() {
		if len(Desired(s, v)) != n {
			b.Fatal("not all services are accounted for")
		}
	}
}

func BenchmarkDiff10k(b *testing.B) {
	s := large(b, 10000)
	was := Desired(s, normal("node-a"))
	v := normal("node-a")
	v.Stance = StanceTakeover
	now := Desired(s, v)
	for b.Loop() {
		if len(Diff(was, now)) != 10000 {
			b.Fatal("every announcement changes at a takeover")
		}
	}
}

func BenchmarkDecideApply1k(b *testing.B) {
	s := large(b, 0)
	var cmds []Command
	for i := range 1000 {
		cmds = append(cmds, SetService{Name: fmt.Sprintf("s%d", i)})
	}
	for b.Loop() {
		if d, err := Decide(s, Apply{append([]Command{SetPool{Name: "large", Ranges: s.Pools["large"].Ranges}}, cmds...)}); err != nil || len(d) != 1000 {
			b.Fatal(len(d), err)
		}
	}
}
