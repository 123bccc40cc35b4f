package peers

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"dyad/chaos"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
	"dyad/projections"
)

func TestTicks(t *testing.T) {
	a, err := parseTicks("cpu  90 10 50 800 40 0 10 0 7 0\ncpu0 1 2 3\n")
	if err != nil || a != (ticks{all: 1000, idle: 850}) {
		t.Fatalf("%+v %v", a, err)
	}
	b := ticks{all: 1100, idle: 920}
	if got := busyBetween(a, b); got != 30 {
		t.Errorf("busy %v %%, want 30", got)
	}
	if got := busyBetween(b, b); got != 0 {
		t.Errorf("busy %v %% in no time", got)
	}
	if got := busyBetween(b, a); got != 0 {
		t.Errorf("busy %v %% in a time that runs backwards", got)
	}
	for _, bad := range []string{"", "cpu 1 2", "intr 1 2 3 4 5 6 7 8", "cpu a b c d e f g h"} {
		if _, err := parseTicks(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestCountOfVerdicts(t *testing.T) {
	var c Count
	for _, v := range []projections.Verdict{
		projections.Alive, projections.Suspect, projections.Alive, projections.Suspect, projections.Gray, projections.ProcessDown, projections.DeadMember, projections.Left,
	} {
		c.add(v)
	}
	if c.Suspicions != 2 || c.Gray != 1 || c.Verdicts != 2 || c.Kinds["process-down"] != 1 || c.Kinds["dead-member"] != 1 {
		t.Errorf("%+v", c)
	}
	before := c
	before.Kinds = map[string]int{"process-down": 1}
	c.add(projections.Suspect)
	if d := c.since(before); d.Suspicions != 1 || d.Verdicts != 0 || len(d.Kinds) != 1 || d.Kinds["dead-member"] != 1 {
		t.Errorf("since: %+v", d)
	}
}

func TestVRRPConfig(t *testing.T) {
	dir := t.TempDir()
	v := VRRP(10*time.Millisecond, true, dir, "dyad").(*vrrp)
	text := v.config(netlab.NodeB)
	for _, want := range []string{"vrrp_version 3", "advert_int 0.01\n", "nopreempt", "priority 250", "10.126.77.100/32 dev port3", "vrrp_rt_priority"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if v.Name() != "keepalived-10ms-realtime" {
		t.Errorf("it is called %s", v.Name())
	}
	if plain := VRRP(10*time.Millisecond, false, dir, "dyad").(*vrrp).config(netlab.NodeA); strings.Contains(plain, "rt_priority") {
		t.Errorf("real-time without being asked for:\n%s", plain)
	}
}

// The figures of a death are of the flow that was away longest; the timeline counts
// from the death; what was lost before belongs to nobody.
func TestFill(t *testing.T) {
	ms := time.Millisecond
	start := time.Unix(1_700_000_000, 0)
	service, bystander := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	stream := func(a netip.Addr, flow int, lost ...[2]int) chaos.Stream {
		s := chaos.Stream{Address: a, Flow: flow}
		for i := range 200 {
			p := chaos.Sample{Seq: uint64(i), Sent: time.Duration(i) * ms, At: time.Duration(i)*ms + ms/10, Outcome: chaos.Answered}
			for _, l := range lost {
				if i >= l[0] && i < l[1] {
					p.Outcome = chaos.Lost
				}
			}
			s.Samples = append(s.Samples, p)
		}
		return s
	}
	d := Death{At: start.Add(100 * ms), Returned: true}
	d.fill(probe.Result{Start: start, Streams: []chaos.Stream{
		stream(service, 0, [2]int{20, 25}, [2]int{101, 112}),
		stream(service, 1, [2]int{101, 131}),
		stream(bystander, 0, [2]int{50, 51}),
	}}, Place{Services: []netip.Addr{service}, Bystander: bystander}, chaos.Instants{Detected: start.Add(120 * ms), NextHop: start.Add(121 * ms)})
	if d.OutageMS != 30 || d.LostPackets != 41 || !d.Returned || d.BystanderLost != 0 {
		t.Errorf("%+v", d)
	}
	if d.DetectMS != 19 || d.By != chaos.ByNextHop {
		t.Errorf("parts: %+v", d.Figures)
	}
	if len(d.Flows) != 3 || len(d.Flows[0].Outages) != 1 || d.Flows[0].Outages[0] != (chaos.Outage{From: ms, To: 12 * ms, Lost: 11}) {
		t.Errorf("timeline: %+v", d.Flows)
	}

	never := Death{At: start.Add(100 * ms), Returned: true}
	never.fill(probe.Result{Start: start, Streams: []chaos.Stream{stream(service, 0, [2]int{101, 200})}}, Place{Services: []netip.Addr{service}}, chaos.Instants{})
	if never.Returned || never.OutageMS != 98 {
		t.Errorf("what never came back: %+v", never)
	}
}

// Loops run until they are stopped, and none is left.
func TestBurn(t *testing.T) {
	stop, err := Burn(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestSample(t *testing.T) {
	var all []netip.Addr
	for a := netip.MustParseAddr("100.64.0.0"); len(all) < 1000; a = a.Next() {
		all = append(all, a)
	}
	last := all[999]
	all[0], all[999] = all[999], all[0] // in no order
	got := sample(all, 16)
	if len(got) != 16 || got[0] != netip.MustParseAddr("100.64.0.0") || got[15] != last {
		t.Errorf("%v", got)
	}
	if few := sample(all[:3], 16); len(few) != 3 {
		t.Errorf("%v of three", few)
	}
	if text := string(manyFile(7, 9)); strings.Count(text, "kind: Service") != 2 || !strings.Contains(text, "name: m00008\n") {
		t.Error(text)
	}
}

func TestCarries(t *testing.T) {
	service, bystander := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	at := Place{Services: []netip.Addr{service}, Bystander: bystander}
	now := func(inRow int, from string, more ...string) []probe.Now {
		return []probe.Now{
			{Address: bystander, InRow: 100, From: []string{from}},
			{Address: service, InRow: inRow, From: more},
		}
	}
	for _, c := range []struct {
		name string
		now  []probe.Now
		want string
	}{
		{"as it should be", now(100, "node-a", "node-b", "node-b"), "node-b"},
		{"not yet answered", now(3, "node-a", "node-b", "node-b"), ""},
		{"both answer", now(100, "node-a", "node-b", "node-a"), ""},
		{"one carries all", now(100, "node-b", "node-b", "node-b"), ""},
	} {
		node, why := carries(c.now, at)
		if node != c.want || (why == "") != (c.want != "") {
			t.Errorf("%s: %q, %q", c.name, node, why)
		}
	}
}
