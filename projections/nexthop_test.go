package projections

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"dyad/eventlog"
)

// wired is two nodes on an interlink, a router-facing switch with both families,
// and a storage switch.
func wired() State {
	pre, addr := netip.MustParsePrefix, netip.MustParseAddr
	port := func(node, iface string, ps ...string) eventlog.Port {
		p := eventlog.Port{Node: node, Interface: iface}
		for _, x := range ps {
			p.Addresses = append(p.Addresses, pre(x))
		}
		return p
	}
	s := State{
		Nodes: map[string]eventlog.Node{
			"a": {Name: "a", Address: addr("10.0.0.1")}, "b": {Name: "b", Address: addr("10.0.0.2")},
		},
		Switches: map[string]eventlog.Switch{
			"vSwitch1": {Name: "vSwitch1", Compute: true, Ports: []eventlog.Port{
				port("a", "eth1", "192.0.2.11/24", "2001:db8::11/64"), port("b", "eth7", "192.0.2.12/24", "2001:db8::12/64"),
			}},
			"vSwitch2": {Name: "vSwitch2", Storage: true, Ports: []eventlog.Port{
				port("a", "eth2", "10.0.0.1/29"), port("b", "eth8", "10.0.0.2/29"),
			}},
			"vSwitch3": {Name: "vSwitch3", Compute: true, Ports: []eventlog.Port{
				port("a", "eth3", "172.16.1.1/30"), port("b", "eth9", "172.16.2.1/30"), // routed: no shared subnet
			}},
		},
		Peers: map[PeerKey]eventlog.Peer{},
	}
	for _, k := range []PeerKey{
		{"vSwitch1", addr("192.0.2.1")},
		{"vSwitch1", addr("192.0.2.2")},
		{"vSwitch1", addr("2001:db8::1")},
		{"vSwitch3", addr("172.16.1.2")},
		{"vSwitch1", addr("203.0.113.9")}, // the last one is several hops away
	} {
		s.Peers[k] = eventlog.Peer{Switch: k.Switch, Address: k.Address}
	}
	return s
}

func TestNextHopsNeedASharedSegment(t *testing.T) {
	got := NextHops(wired(), View{Self: "a"})
	want := []NextHop{
		{"b", "vSwitch1", "eth1", netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")},
		{"b", "vSwitch1", "eth1", netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("2001:db8::12")},
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	none := wired()
	sw := none.Switches["vSwitch1"]
	sw.Compute = false
	none.Switches["vSwitch1"] = sw
	if got := NextHops(none, View{Self: "a"}); len(got) > 0 {
		t.Errorf("on a switch without compute: %+v", got)
	}
	if got := NextHops(wired(), View{Self: "c"}); len(got) > 0 {
		t.Errorf("for a node without ports: %+v", got)
	}
}

func TestGatewaysAreThoseOnTheSegment(t *testing.T) {
	var got []string
	for _, g := range Gateways(wired(), View{Self: "a"}) {
		got = append(got, fmt.Sprintf("%s %s %s", g.Interface, g.Own, g.Address))
	}
	want := []string{
		"eth1 192.0.2.11 192.0.2.1", "eth1 192.0.2.11 192.0.2.2", "eth1 2001:db8::11 2001:db8::1", "eth3 172.16.1.1 172.16.1.2",
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// Both ends number the paths alike, and each is the other's mirror.
func TestPathsAreTheSameFromBothEnds(t *testing.T) {
	s := wired()
	a, b := Paths(s, View{Self: "a"}), Paths(s, View{Self: "b"})
	if len(a) != 3 || len(b) != len(a) {
		t.Fatalf("%+v\n%+v", a, b)
	}
	for i := range a {
		if a[i].Local != b[i].Remote || a[i].Remote != b[i].Local || a[i].Switch != b[i].Switch {
			t.Errorf("path %d: %+v and %+v", i, a[i], b[i])
		}
	}
	if a[0].Switch != "" || a[1].Interface != "eth1" || b[1].Interface != "eth7" || !a[1].Local.Is4() || a[2].Local.Is4() {
		t.Errorf("%+v", a)
	}
	delete(s.Nodes, "b")
	if got := Paths(s, View{Self: "a"}); len(got) > 0 {
		t.Errorf("alone: %+v", got)
	}
}
