package labtest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
	"dyad/eventlog"
	"dyad/projections"
)

// segmentLab is a lab whose service shop has addresses in the router's own subnet,
// so that the router asks for them like any host: its kernel's cache is what has to
// follow. shop prefers node-b.
type segmentLab struct {
	*lab.Lab
	t    *testing.T
	vips []netip.Addr
}

func upOnSegment(t *testing.T) *segmentLab {
	t.Helper()
	l := &segmentLab{Lab: up(t, netlab.KindGoBGP), t: t}
	r4, _ := eventlog.ParseRange("10.126.77.64/28")
	r6, _ := eventlog.ParseRange("2001:db8:77::40/124")
	l.do(projections.SetPool{Name: "segment", Ranges: []eventlog.Range{r4, r6}, Manual: true})
	l.do(projections.SetService{Name: "shop", Pool: "segment", Family: "dual", Prefer: netlab.NodeB})
	l.vips = []netip.Addr{netip.MustParseAddr("10.126.77.64"), netip.MustParseAddr("2001:db8:77::40")}
	return l
}

func (l *segmentLab) do(c projections.Command) {
	l.t.Helper()
	n, err := l.Node(netlab.NodeA)
	if err == nil {
		err = n.Client().Do(l.t.Context(), c, l.t.Name())
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// probe asks the addresses from the client, behind the router, until done.
func (l *segmentLab) probe(vips []netip.Addr, during func(answeredBy func(node string))) (longest time.Duration, lost int) {
	l.t.Helper()
	var targets []probe.Target
	for _, a := range vips {
		targets = append(targets, probe.Target{Address: a, Service: "shop", Flows: 1})
	}
	p, err := probe.Start(l.t.Context(), probe.Config{
		Do:      func(f func() error) error { return netlab.Do(l.NS(netlab.Client), f) },
		Targets: targets, Port: l.Plan.EchoPort, Hz: 500,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	during(func(node string) {
		l.t.Helper()
		var now []probe.Now
		defer func() {
			if l.t.Failed() {
				l.t.Logf("want %s, have %+v", node, now)
			}
		}()
		until(l.t, time.Minute, "answers by "+node, func() bool {
			now = p.Now()
			return !slices.ContainsFunc(now, func(n probe.Now) bool { return n.InRow < 50 || n.From[0] != node })
		})
	})
	for _, s := range p.Stop().Streams {
		i := slices.IndexFunc(s.Samples, func(x chaos.Sample) bool { return x.Outcome != chaos.Lost })
		for _, o := range chaos.Outages(s.Samples[max(i, 0):]) {
			longest, lost = max(longest, o.Length()), lost+o.Lost
		}
	}
	return longest, lost
}

// shown is what dyad says of shop's first address.
func (l *segmentLab) shown() string {
	out, err := l.Dyad(l.t.Context(), netlab.NodeA, "service", "show", "shop")
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// TestLayer2 takes the router away as a peer and plays what can happen to a pair
// that answers for its addresses itself.
func TestLayer2(t *testing.T) {
	l := upOnSegment(t)
	node := func(name string) lab.Client {
		n, err := l.Node(name)
		if err != nil {
			t.Fatal(err)
		}
		return n.Client()
	}
	lossless := func(what string, vips []netip.Addr, during func(answeredBy func(string))) {
		t.Helper()
		if longest, lost := l.probe(vips, during); lost > 0 {
			t.Errorf("%s lost %d probes, longest outage %s", what, lost, longest)
		}
	}
	lossless("from BGP to layer 2", l.vips[:1], func(by func(string)) {
		by(netlab.NodeB)
		l.do(projections.RemovePeer{Switch: l.Plan.SwitchName, Address: l.Plan.RouterPeer})
		until(t, 20*time.Second, "the routes to go", func() bool { r, err := netlab.Table(l.NS(netlab.Router)); return err == nil && len(r) == 0 })
		by(netlab.NodeB)
	})
	if s := l.shown(); !strings.Contains(s, "answers ARP for 10.126.77.64 on vSwitch1 (port3)") || !strings.Contains(s, "answers NDP") {
		t.Errorf("service show:\n%s", s)
	}

	longest, lost := l.probe(l.vips, func(by func(string)) {
		by(netlab.NodeB)
		if err := netlab.Silence(l.NS(netlab.NodeB)); err != nil {
			t.Fatal(err)
		}
		by(netlab.NodeA)
		if err := l.PowerOff(netlab.NodeB); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("a hard death: outage %s", longest)
	if lost == 0 || longest > 2*time.Second {
		t.Errorf("a hard death: %d lost, outage %s", lost, longest)
	}

	lossless("the way back", l.vips, func(by func(string)) {
		by(netlab.NodeA)
		if err := netlab.Unsilence(l.NS(netlab.NodeB)); err != nil {
			t.Fatal(err)
		}
		if err := l.PowerOn(netlab.NodeB, ""); err != nil {
			t.Fatal(err)
		}
		by(netlab.NodeB)
	})
	lossless("a drain", l.vips, func(by func(string)) {
		by(netlab.NodeB)
		l.do(projections.DrainNode{Node: netlab.NodeB, On: true})
		by(netlab.NodeA)
		l.do(projections.DrainNode{Node: netlab.NodeB})
		by(netlab.NodeB)
	})
	lossless("a cut between the nodes", l.vips, func(by func(string)) {
		if err := l.Cut(netlab.NodeB, lab.LinkCluster); err != nil {
			t.Fatal(err)
		}
		until(t, 20*time.Second, "a path down", func() bool {
			s, err := node(netlab.NodeA).Status(t.Context())
			return err == nil && len(s.Conditions) > 0
		})
		by(netlab.NodeB)
		if err := l.Mend(netlab.NodeB); err != nil {
			t.Fatal(err)
		}
		by(netlab.NodeB)
	})
	lossless("from layer 2 to BGP", l.vips[:1], func(by func(string)) {
		by(netlab.NodeB)
		hold := int64(l.Plan.HoldTime)
		l.do(projections.SetPeer{
			Switch: l.Plan.SwitchName, Address: l.Plan.RouterPeer,
			PeerASN: int64(l.Plan.RouterASN), SelfASN: int64(l.Plan.NodeASN), HoldTime: &hold,
		})
		until(t, 30*time.Second, "given up on the segment", func() bool {
			out, err := l.Dyad(t.Context(), netlab.NodeB, "log", "list", "--type", "address.given", "-o", "json")
			return err == nil && strings.Contains(out, "no longer to be announced here")
		})
		by(netlab.NodeB)
	})
	out, err := l.Dyad(t.Context(), netlab.NodeA, "log", "list", "--type", "address.taken")
	if err != nil || !strings.Contains(out, "answers for 10.126.77.64") {
		t.Errorf("log: %v\n%s", err, out)
	}
}
