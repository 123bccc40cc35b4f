package gobgp

import (
	"fmt"
	"net/netip"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"dyad/projections"
	"dyad/speaker"
)

// familyOf is the address family of a prefix.
func familyOf(p netip.Prefix) bgp.Family {
	if p.Addr().Is4() {
		return bgp.RF_IPv4_UC
	}
	return bgp.RF_IPv6_UC
}

// families are what a session with the peer offers (RFC 4760). The peer's own
// family always; IPv6 over an IPv4 session only if a next hop for it is known.
// IPv4 over an IPv6 session would need a router that does RFC 8950.
func (o Options) families(p speaker.Peer) []bgp.Family {
	switch {
	case !p.Address.Is4():
		return []bgp.Family{bgp.RF_IPv6_UC}
	case o.NextHop6.IsValid():
		return []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC}
	}
	return []bgp.Family{bgp.RF_IPv4_UC}
}

// withheldWords says why routes are withheld from a session.
func withheldWords(p speaker.Peer, n int) string {
	if p.Address.Is4() {
		return fmt.Sprintf("%d IPv6 routes are withheld: this IPv4 session has no IPv6 next hop. "+
			"Add a peer with the router's IPv6 address", n)
	}
	return fmt.Sprintf("%d IPv4 routes are withheld: an IPv6 session cannot carry them. "+
		"Add a peer with the router's IPv4 address", n)
}

// nextHop is the next hop of a route; unspecified means the session's own
// address, which GoBGP fills in.
func (o Options) nextHop(r speaker.Route) netip.Addr {
	switch {
	case r.Prefix.Addr().Is4():
		return netip.IPv4Unspecified()
	case r.Peer.Is4():
		return o.NextHop6
	}
	return netip.IPv6Unspecified()
}

// path is the route as GoBGP wants it. GoBGP puts the local ASN in front of
// AS_PATH once by itself on eBGP sessions. On iBGP sessions AS_PATH stays empty
// (RFC 4271 section 5.1.2: one's own ASN in it would be taken for a loop) and
// LOCAL_PREF does the work.
func (o Options) path(p speaker.Peer, r speaker.Route) (*apiutil.Path, error) {
	nlri, err := bgp.NewIPAddrPrefix(r.Prefix)
	if err != nil {
		return nil, fmt.Errorf("prefix %s: %w", r.Prefix, err)
	}
	family := familyOf(r.Prefix)
	reach, err := bgp.NewPathAttributeMpReachNLRI(family, []bgp.PathNLRI{{NLRI: nlri}}, o.nextHop(r))
	if err != nil {
		return nil, fmt.Errorf("next hop of %s: %w", r.Prefix, err)
	}
	return &apiutil.Path{Family: family, Nlri: nlri, Attrs: append(attributes(p, r.Attributes), reach)}, nil
}

func attributes(p speaker.Peer, a projections.Attributes) []bgp.PathAttributeInterface {
	out := []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(a.Origin),
		bgp.NewPathAttributeMultiExitDisc(a.MED),
	}
	switch {
	case p.PeerASN == p.SelfASN:
		out = append(out, bgp.NewPathAttributeLocalPref(a.LocalPref))
	case a.Prepend > 0:
		asns := make([]uint32, a.Prepend)
		for i := range asns {
			asns[i] = p.SelfASN
		}
		out = append(out, bgp.NewPathAttributeAsPath([]bgp.AsPathParamInterface{
			bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, asns),
		}))
	}
	if len(a.Communities) > 0 {
		out = append(out, bgp.NewPathAttributeCommunities(a.Communities))
	}
	return out
}
