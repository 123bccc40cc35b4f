package projections

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dyad/eventlog"
)

// DefaultHoldTime is proposed if none is given, in seconds (RFC 4271 section 10).
const DefaultHoldTime = 90

// CheckASN refuses what is not 1–65534 or 131072–4294967294: 0 (RFC 7607),
// 65535 (RFC 7300), AS_TRANS's neighbourhood up to 131071 (reserved or
// documentation, RFC 5398), and 4294967295 (RFC 7300).
func CheckASN(what string, asn int64) error {
	if asn >= 1 && asn <= 65534 || asn >= 131072 && asn <= 4294967294 {
		return nil
	}
	return refuse("asn-range", fmt.Sprintf("%s %d", what, asn), "choose a private ASN, such as 64512–65534",
		"an ASN is 1–65534 (16 bit) or 131072–4294967294 (32 bit)")
}

// CheckHoldTime refuses what is not 0 or 3–65535 seconds (RFC 4271 section 4.2).
func CheckHoldTime(seconds int64) error {
	if seconds == 0 || seconds >= 3 && seconds <= 65535 {
		return nil
	}
	return refuse("hold-time-range", fmt.Sprintf("hold time %d", seconds), "leave it out for 90, or give 3 or more",
		"a hold time is 0 (never expires) or 3–65535 seconds")
}

// checkPeerAddress refuses what no BGP neighbour can have.
func checkPeerAddress(a netip.Addr) error {
	what := "peer address " + a.String()
	switch {
	case !a.IsValid():
		return refuse("peer-address", "peer address", "give an address such as 192.0.2.1", "it is missing or not an IP address")
	case a.Zone() != "":
		return refuse("peer-address", what, "give the router's global address, without %"+a.Zone(),
			"a zone names an interface of one node, and a peer belongs to both")
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return refuse("peer-address", what, "give the address of the router's interface on that switch",
			"no router can have this address")
	}
	return nil
}

func (f *folder) setPeer(c SetPeer) ([]eventlog.Draft, error) {
	c.Address = c.Address.Unmap()
	if err := checkPeerAddress(c.Address); err != nil {
		return nil, err
	}
	if err := CheckASN("peer ASN", c.PeerASN); err != nil {
		return nil, err
	}
	if err := CheckASN("own ASN", c.SelfASN); err != nil {
		return nil, err
	}
	hold := int64(DefaultHoldTime)
	if c.HoldTime != nil {
		hold = *c.HoldTime
	}
	if err := CheckHoldTime(hold); err != nil {
		return nil, err
	}
	if err := f.computeSwitch(c.Switch, "a BGP peer"); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("peer %s on %s", c.Address, c.Switch)
	if node, ok := f.nodeWith(c.Address); ok {
		return nil, refuse("peer-is-node", what, "give the router's address", "%s is an address of %s", c.Address, node)
	}
	if pool, ok := f.poolWith(c.Address); ok {
		return nil, refuse("peer-in-pool", what, "dyad pool set "+pool+" with ranges that leave it out",
			"the address lies in pool %s, so a service could get it", pool)
	}
	old, existed := f.s.Peers[PeerKey{c.Switch, c.Address}]
	if existed && c.New {
		return nil, refuse("peer-exists", what, fmt.Sprintf("dyad peer set %s --switch %s …", c.Address, c.Switch),
			"the peer exists (peer ASN %d, own ASN %d, hold time %d s)", old.PeerASN, old.SelfASN, old.HoldTime)
	}
	for k := range f.s.Peers {
		if k.Address == c.Address && k.Switch != c.Switch {
			return nil, refuse("duplicate-peer", what, fmt.Sprintf("dyad peer remove %s --switch %s", k.Address, k.Switch),
				"the same address is a peer on %s", k.Switch)
		}
	}
	now := eventlog.Peer{
		Switch: c.Switch, Address: c.Address,
		PeerASN: uint32(c.PeerASN), SelfASN: uint32(c.SelfASN), HoldTime: uint16(hold),
	}
	return change(eventlog.TypePeerSet, peerStream(now.Switch, now.Address), now, old, existed)
}

func peerStream(sw string, a netip.Addr) string { return "peer/" + sw + "/" + a.String() }

func (f *folder) removePeer(c RemovePeer) ([]eventlog.Draft, error) {
	c.Address = c.Address.Unmap()
	if _, ok := f.s.Switches[c.Switch]; !ok {
		return nil, f.unknownSwitch(c.Switch)
	}
	old, ok := f.s.Peers[PeerKey(c)]
	if !ok {
		return nil, refuse("peer-unknown", fmt.Sprintf("peer %s on %s", c.Address, c.Switch), "dyad peer list",
			"there is no such peer")
	}
	return change(eventlog.TypePeerRemoved, peerStream(c.Switch, c.Address),
		eventlog.Removed{Switch: c.Switch, Address: c.Address}, old, true)
}

// computeSwitch wants a known switch that is enabled for compute.
func (f *folder) computeSwitch(name, user string) error {
	sw, ok := f.s.Switches[name]
	if !ok {
		return f.unknownSwitch(name)
	}
	if !sw.Compute {
		return refuse("switch-not-compute", "switch "+name, fmt.Sprintf("dyad switch set %s --compute", name),
			"it is not enabled for compute, which %s needs", user)
	}
	return nil
}

func (f *folder) unknownSwitch(name string) error {
	known := slices.Sorted(maps.Keys(f.s.Switches))
	if len(known) == 0 {
		return refuse("switch-unknown", fmt.Sprintf("switch %q", name), "declare it under switches: in the agent's configuration",
			"no switch is declared yet")
	}
	return refuse("switch-unknown", fmt.Sprintf("switch %q", name), "dyad switch list",
		"there is no such switch; there are: %s", strings.Join(known, ", "))
}

// nodeWith finds the node that has an address, on any interface.
func (f *folder) nodeWith(a netip.Addr) (string, bool) {
	for _, name := range slices.Sorted(maps.Keys(f.s.Nodes)) {
		n := f.s.Nodes[name]
		if n.Address == a || slices.ContainsFunc(n.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return name, true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.s.Switches)) {
		for _, p := range f.s.Switches[name].Ports {
			if slices.ContainsFunc(p.Addresses, func(q netip.Prefix) bool { return q.Addr() == a }) {
				return p.Node, true
			}
		}
	}
	return "", false
}

// poolWith finds the pool an address lies in.
func (f *folder) poolWith(a netip.Addr) (string, bool) {
	for _, name := range slices.Sorted(maps.Keys(f.s.Pools)) {
		if slices.ContainsFunc(f.s.Pools[name].Ranges, func(r eventlog.Range) bool { return r.Contains(a) }) {
			return name, true
		}
	}
	return "", false
}
