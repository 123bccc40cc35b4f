package projections

import (
	"cmp"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// NextHop is an address of another node that routers use as a next hop, on a
// segment that this node is on too: while its owner is silent, it can be taken
// over by address resolution alone.
type NextHop struct {
	Node      string     `json:"node"` // whose address it is
	Switch    string     `json:"switch"`
	Interface string     `json:"interface"` // of this node, on the shared segment
	Own       netip.Addr `json:"own"`       // of this node, in the same subnet
	Address   netip.Addr `json:"address"`
}

// Gateway is a router on a segment that this node is on.
type Gateway struct {
	Switch    string     `json:"switch"`
	Interface string     `json:"interface"`
	Own       netip.Addr `json:"own"`
	Address   netip.Addr `json:"address"`
}

// Path is a way between this node and another: the network the nodes use among
// themselves (Switch is empty), or a switch that both have a port on.
type Path struct {
	Node      string     `json:"node"` // at the other end
	Switch    string     `json:"switch,omitempty"`
	Interface string     `json:"interface,omitempty"`
	Local     netip.Addr `json:"local"`
	Remote    netip.Addr `json:"remote"`
}

// NextHops lists the next hops of other nodes that v.Self could take, sorted by
// switch and address: on every compute switch with a peer, where both nodes have
// an address in the peer's subnet. A link without a shared subnet has none.
func NextHops(s State, v View) []NextHop {
	var out []NextHop
	eachPeer(s, v.Self, func(sw eventlog.Switch, own portAddress, peer eventlog.Peer) {
		for _, port := range sw.Ports {
			for _, p := range port.Addresses {
				h := NextHop{Node: port.Node, Switch: sw.Name, Interface: own.iface, Own: own.prefix.Addr(), Address: p.Addr()}
				if port.Node != v.Self && own.prefix.Contains(p.Addr()) && !slices.Contains(out, h) {
					out = append(out, h)
				}
			}
		}
	})
	slices.SortFunc(out, func(a, b NextHop) int { return cmp.Or(cmp.Compare(a.Switch, b.Switch), a.Address.Compare(b.Address)) })
	return out
}

// Gateways lists the routers that v.Self can ask on its own segments, sorted by
// switch and address.
func Gateways(s State, v View) []Gateway {
	var out []Gateway
	eachPeer(s, v.Self, func(sw eventlog.Switch, own portAddress, peer eventlog.Peer) {
		g := Gateway{Switch: sw.Name, Interface: own.iface, Own: own.prefix.Addr(), Address: peer.Address}
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	})
	slices.SortFunc(out, func(a, b Gateway) int { return cmp.Or(cmp.Compare(a.Switch, b.Switch), a.Address.Compare(b.Address)) })
	return out
}

// portAddress is one address of this node.
type portAddress struct {
	iface  string
	prefix netip.Prefix
}

// eachPeer calls f for every peer of a compute switch that shares a subnet with
// an address of self, with that address.
func eachPeer(s State, self string, f func(eventlog.Switch, portAddress, eventlog.Peer)) {
	for _, k := range s.PeerKeys() {
		sw := s.Switches[k.Switch]
		if !sw.Compute {
			continue
		}
		for _, a := range ownAddresses(sw, self) {
			if a.prefix.Contains(k.Address) {
				f(sw, a, s.Peers[k])
			}
		}
	}
}

func ownAddresses(sw eventlog.Switch, self string) []portAddress {
	var out []portAddress
	for _, port := range sw.Ports {
		for _, p := range port.Addresses {
			if port.Node == self {
				out = append(out, portAddress{port.Interface, p})
			}
		}
	}
	return out
}

// MaxPaths bounds the ways between two nodes that [Paths] lists.
const MaxPaths = 8

// Paths lists the ways to every other node, the nodes' own network first, then
// one for each switch by name, IPv4 before IPv6, at most [MaxPaths] for a node.
//
// Invariant: both ends list the same paths in the same order, so that a path's
// place in the list is its number on the wire.
func Paths(s State, v View) []Path {
	var out []Path
	me := s.Nodes[v.Self]
	for _, name := range s.NodeNames() {
		n := s.Nodes[name]
		if name == v.Self || !n.Address.IsValid() || !me.Address.IsValid() {
			continue
		}
		mine := []Path{{Node: name, Local: me.Address, Remote: n.Address}}
		seen := map[netip.Prefix]bool{}
		for _, a := range [...]bool{true, false} { // IPv4 is Is4
			mine = append(mine, switchPaths(s, me, n, a, seen)...)
		}
		slices.SortStableFunc(mine[1:], func(a, b Path) int { return cmp.Compare(a.Switch, b.Switch) })
		out = append(out, mine[:min(len(mine), MaxPaths)]...)
	}
	return out
}

// switchPaths pairs the nodes' addresses on each switch that share a subnet, one
// pair for each subnet. The network of the nodes themselves is no second path.
func switchPaths(s State, me, other eventlog.Node, v4 bool, seen map[netip.Prefix]bool) []Path {
	var out []Path
	for _, sw := range sortedSwitches(s) {
		for _, a := range sortedAddresses(sw, me.Name) {
			for _, b := range sortedAddresses(sw, other.Name) {
				subnet := a.prefix.Masked()
				if a.prefix.Addr().Is4() != v4 || subnet != b.prefix.Masked() || seen[subnet] ||
					subnet.Contains(me.Address) && subnet.Contains(other.Address) {
					continue
				}
				seen[subnet] = true
				out = append(out, Path{
					Node: other.Name, Switch: sw.Name, Interface: a.iface, Local: a.prefix.Addr(), Remote: b.prefix.Addr(),
				})
			}
		}
	}
	return out
}

func sortedSwitches(s State) []eventlog.Switch {
	out := make([]eventlog.Switch, 0, len(s.Switches))
	for _, sw := range s.Switches {
		out = append(out, sw)
	}
	slices.SortFunc(out, func(a, b eventlog.Switch) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func sortedAddresses(sw eventlog.Switch, node string) []portAddress {
	out := ownAddresses(sw, node)
	slices.SortFunc(out, func(a, b portAddress) int { return a.prefix.Compare(b.prefix) })
	return out
}
