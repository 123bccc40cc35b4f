package api

import (
	"maps"
	"math/big"
	"net/netip"
	"slices"

	"dyad/eventlog"
	"dyad/projections"
)

// Protocols of a [SwitchView].
const (
	SwitchBGP    = "bgp"
	SwitchLayer2 = "layer2"
)

// SwitchViews lists every switch, sorted by name, with its peers and with the
// pools that are tied to it.
func SwitchViews(s projections.State) []SwitchView {
	out := make([]SwitchView, 0, len(s.Switches))
	for _, name := range slices.Sorted(maps.Keys(s.Switches)) {
		v := SwitchView{Switch: s.Switches[name], Peers: []netip.Addr{}, Pools: []string{}, Protocol: SwitchLayer2}
		for _, p := range s.PeersOn(name) {
			v.Peers = append(v.Peers, p.Address)
			v.Protocol = SwitchBGP
		}
		for _, pool := range slices.Sorted(maps.Keys(s.Pools)) {
			if s.Pools[pool].Switch == name {
				v.Pools = append(v.Pools, pool)
			}
		}
		out = append(out, v)
	}
	return out
}

// PoolViews lists every pool, sorted by name, with its use.
func PoolViews(s projections.State) []PoolView {
	type use struct{ addresses, services int }
	used := make(map[string]use, len(s.Pools))
	for _, sv := range s.Services {
		u := used[sv.Pool]
		used[sv.Pool] = use{u.addresses + len(sv.Addresses), u.services + 1}
	}
	out := make([]PoolView, 0, len(s.Pools))
	for _, name := range slices.Sorted(maps.Keys(s.Pools)) {
		v := PoolView{Pool: s.Pools[name], Used: used[name].addresses, Users: used[name].services}
		size := new(big.Int)
		for _, r := range v.Ranges {
			size.Add(size, r.Size())
		}
		v.Size = size.String()
		out = append(out, v)
	}
	return out
}

// Peers lists every peer, sorted by switch and address.
func Peers(s projections.State) []eventlog.Peer {
	out := make([]eventlog.Peer, 0, len(s.Peers))
	for _, k := range s.PeerKeys() {
		out = append(out, s.Peers[k])
	}
	return out
}

// Services lists every service, sorted by name.
func Services(s projections.State) []eventlog.Service { return byName(s.Services) }

// Nodes lists every node, sorted by name.
func Nodes(s projections.State) []eventlog.Node { return byName(s.Nodes) }

func byName[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[name])
	}
	return out
}

// full is s, or an empty list in its place: a list on the wire is never null.
func full[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
