package node

import (
	"net/netip"
	"testing"

	"dyad/eventlog"
	"dyad/failover/pulse"
	"dyad/projections"
)

func TestSetupFollowsTheLog(t *testing.T) {
	c := testConfig(t)
	c.Node = "a"
	pre, addr := netip.MustParsePrefix, netip.MustParseAddr
	s := projections.State{
		Nodes: map[string]eventlog.Node{"a": {Name: "a", Address: addr("10.0.0.1")}},
		Switches: map[string]eventlog.Switch{"vSwitch1": {Name: "vSwitch1", Compute: true, Ports: []eventlog.Port{
			{Node: "a", Interface: "eth1", Addresses: []netip.Prefix{pre("192.0.2.11/24"), pre("2001:db8::11/64")}},
			{Node: "b", Interface: "eth1", Addresses: []netip.Prefix{pre("192.0.2.12/24"), pre("2001:db8::12/64")}},
		}}},
		Peers: map[projections.PeerKey]eventlog.Peer{{Switch: "vSwitch1", Address: addr("192.0.2.1")}: {}},
	}
	key := make([]byte, pulse.KeyLen)
	if got := setupOf(s, c, key, pulse.Fast); got.Peer != "" || len(got.Paths) > 0 {
		t.Errorf("alone: %+v", got)
	}
	s.Nodes["b"] = eventlog.Node{Name: "b", Address: addr("10.0.0.2")}
	got := setupOf(s, c, key, pulse.Fast)
	if got.Self != "a" || got.Peer != "b" || got.Interval != pulse.Fast.Interval || got.Port != c.Ports.Pulse {
		t.Errorf("%+v", got)
	}
	var names []string
	for _, p := range got.Paths {
		names = append(names, p.Name)
	}
	if len(names) != 3 || names[0] != interlink || names[1] != "vSwitch1" || names[2] != "vSwitch1/6" {
		t.Errorf("paths %q", names)
	}
	// The interlink has no interface on this host, so its kernel can't be asked; of
	// the router-facing addresses only the one in the router's subnet is a next hop.
	var hops, gateways int
	for _, x := range got.Targets {
		switch x.Class {
		case pulse.Hop:
			hops++
			if x.Address != addr("192.0.2.12") || x.Own != addr("192.0.2.11") {
				t.Errorf("%+v", x)
			}
		case pulse.Gateway:
			gateways++
		default:
			t.Errorf("%+v", x)
		}
	}
	if hops != 1 || gateways != 1 {
		t.Errorf("%d next hops, %d gateways", hops, gateways)
	}
}
