package speaker

import (
	"net/netip"
	"slices"

	"dyad/eventlog"
	"dyad/projections"
)

// WishFrom is what one node should tell its routers: its peers, and those of
// its announcements that are announced by BGP. Announcements for a peer that is
// not listed are left out, so that removing a peer never waits for them. An
// address that is a peer on two switches is one session; the first switch in
// the order of their names counts.
//
// Nil announcements mean that nothing is known about routes yet, and what
// stands is kept. Pass an empty, non-nil list to withdraw everything.
func WishFrom(routerID netip.Addr, peers []eventlog.Peer, anns projections.Announcements) Wish {
	w := Wish{RouterID: routerID.Unmap()}
	peers = slices.Clone(peers)
	slices.SortStableFunc(peers, comparePeers)
	known := make(map[netip.Addr]bool, len(peers))
	for _, p := range peers {
		a := p.Address.Unmap()
		if known[a] {
			continue
		}
		known[a] = true
		w.Peers = append(w.Peers, Peer{Address: a, PeerASN: p.PeerASN, SelfASN: p.SelfASN, HoldTime: p.HoldTime})
	}
	if anns == nil {
		return w
	}
	w.Routes = make([]Route, 0, len(anns))
	for _, a := range anns {
		if !a.Announced || a.Protocol != projections.BGP || !known[a.Peer.Unmap()] {
			continue
		}
		w.Routes = append(w.Routes, Route{Peer: a.Peer.Unmap(), Prefix: a.Prefix, Attributes: a.Attributes})
	}
	w.Routes = SortRoutes(w.Routes)
	return w
}

func comparePeers(a, b eventlog.Peer) int {
	if c := a.Address.Unmap().Compare(b.Address.Unmap()); c != 0 {
		return c
	}
	if a.Switch < b.Switch {
		return -1
	}
	if a.Switch > b.Switch {
		return 1
	}
	return 0
}
