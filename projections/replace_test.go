package projections

import (
	"net/netip"
	"testing"
	"time"

	"dyad/eventlog"
)

func TestAReplacedNodeHandsOnWhatItHad(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s := revokedAfter(t, State{},
		JoinNode{Node: eventlog.Node{Name: "node-a", Address: netip.MustParseAddr("192.0.2.1")}},
		JoinNode{Node: eventlog.Node{Name: "node-b", Address: netip.MustParseAddr("192.0.2.2")}},
		DeclareSwitch{Switch: eventlog.Switch{Name: "v", Compute: true, Ports: []eventlog.Port{{Node: "node-a", Interface: "e1"}, {Node: "node-b", Interface: "e2"}}}},
		DeclareSwitch{Switch: eventlog.Switch{Name: "w", Ports: []eventlog.Port{{Node: "node-a", Interface: "e3"}}}},
		SetPool{Name: "p", Ranges: []eventlog.Range{eventlog.PrefixRange(netip.MustParsePrefix("203.0.113.0/28"))}},
		SetService{Name: "one", Prefer: "node-b"}, SetService{Name: "two", Prefer: "node-a"},
		DrainNode{Node: "node-b", On: true},
	)
	for c, want := range map[Command]string{
		ReplaceNode{Name: "node-b", With: "node-a", Now: now}:  "node-exists",
		ReplaceNode{Name: "node-z", With: "node-z", Now: now}:  "node-unknown",
		ReplaceNode{Name: "node-b", With: "no name", Now: now}: "name",
	} {
		if _, err := Decide(s, c); refusalCode(err) != want {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	for with, events := range map[string]int{"node-b": 3, "node-c": 4} {
		c := ReplaceNode{Name: "node-b", With: with, Self: "node-a", Now: now}
		d, err := Decide(s, c)
		if err != nil || len(d) != events || d[0].Type != eventlog.TypeNodeRemoved {
			t.Fatalf("with %s: %d events, %v", with, len(d), err)
		}
		after := revokedAfter(t, s, c)
		if ports := after.Switches["v"].Ports; len(ports) != 2 || ports[1].Node != with || ports[1].Interface != "e2" {
			t.Errorf("with %s: ports %v", with, ports)
		}
		one := after.Services["one"]
		if one.Preferred != with || !one.Pinned || one.Addresses[0] != s.Services["one"].Addresses[0] || after.Services["two"].Preferred != "node-a" {
			t.Errorf("with %s: %+v", with, after.Services)
		}
		if after.Drained["node-b"] || len(after.Nodes) != 1 || after.Mode != "SOLO" || len(after.Writers) != 1 || after.Refuses(kindNode, "node-b", "", now) == "" {
			t.Errorf("with %s: drained %v, nodes %v", with, after.Drained, after.Nodes)
		}
		if d, err := Decide(after, c); err != nil || len(d) != 0 {
			t.Errorf("with %s, again: %d events, %v", with, len(d), err)
		}
		if _, err := Decide(after, JoinNode{Node: eventlog.Node{Name: with, Address: netip.MustParseAddr("192.0.2.9")}}); err != nil {
			t.Errorf("with %s: it can't join: %v", with, err)
		}
	}
}
