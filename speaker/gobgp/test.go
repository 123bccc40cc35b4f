package gobgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"dyad/speaker"
)

var _ speaker.Tester = (*Speaker)(nil)

// tested names a test route.
type tested struct {
	peer   netip.Addr
	prefix netip.Prefix
}

// Test implements [speaker.Tester].
func (s *Speaker) Test(ctx context.Context, r speaker.Route) error {
	s.op.Lock()
	defer s.op.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.Peer = r.Peer.Unmap()
	n := s.neighborAt(r.Peer)
	switch {
	case n == nil:
		return fmt.Errorf("this node has no session with %s", r.Peer)
	case !slices.Contains(s.opts.families(n.conf), familyOf(r.Prefix)):
		return fmt.Errorf("the session with %s can't carry %s: give a prefix of the router's own family", r.Peer, r.Prefix)
	case s.wishes(r.Peer, r.Prefix):
		return fmt.Errorf("%s is announced to %s for a service", r.Prefix, r.Peer)
	}
	p, err := s.opts.path(n.conf, r)
	if err != nil {
		return err
	}
	if err := s.engine.put(n.vrf, []*apiutil.Path{p}); err != nil {
		return fmt.Errorf("announce %s to %s: %w", r.Prefix, r.Peer, err)
	}
	s.tests[tested{r.Peer, r.Prefix}] = r
	return nil
}

// wishes tells whether a wish announces the prefix to the peer. The caller holds op.
func (s *Speaker) wishes(peer netip.Addr, prefix netip.Prefix) bool {
	same := func(r speaker.Route) bool { return r.Peer == peer && r.Prefix == prefix }
	return slices.ContainsFunc(s.wanted, same) || slices.ContainsFunc(s.have, same)
}

// Untest implements [speaker.Tester].
func (s *Speaker) Untest(_ context.Context, peer netip.Addr, prefix netip.Prefix) error {
	s.op.Lock()
	defer s.op.Unlock()
	key := tested{peer.Unmap(), prefix}
	r, ok := s.tests[key]
	delete(s.tests, key)
	n := s.neighborAt(key.peer)
	if !ok || n == nil || s.running() == nil || s.wishes(key.peer, prefix) {
		return nil
	}
	p, err := s.opts.path(n.conf, r)
	if err == nil {
		err = s.engine.take(n.vrf, []*apiutil.Path{p})
	}
	if err != nil {
		return fmt.Errorf("withdraw %s from %s: %w", prefix, peer, err)
	}
	return nil
}

// testPaths takes the test routes of a peer that is removed. The caller holds op.
func (s *Speaker) testPaths(n *neighbor) []*apiutil.Path {
	var out []*apiutil.Path
	for key, r := range s.tests {
		if key.peer != n.conf.Address {
			continue
		}
		delete(s.tests, key)
		if p, err := s.opts.path(n.conf, r); err == nil && !s.wishes(key.peer, key.prefix) {
			out = append(out, p)
		}
	}
	return out
}

// Heard implements [speaker.Tester]. It holds op, as GoBGP must not end meanwhile.
func (s *Speaker) Heard(peer netip.Addr, prefix netip.Prefix) (speaker.Heard, error) {
	s.op.Lock()
	defer s.op.Unlock()
	if s.isClosed() || s.running() == nil {
		return speaker.Heard{}, ErrClosed
	}
	h, err := s.engine.heard(peer.Unmap(), prefix)
	if err != nil {
		return h, fmt.Errorf("what %s sends of %s: %w", peer, prefix, err)
	}
	return h, nil
}

// heard looks into the Adj-RIB-In, before any policy: a path with this node's
// own ASN in it, as the other node's has where both share one, is there too.
func (e *engine) heard(peer netip.Addr, prefix netip.Prefix) (speaker.Heard, error) {
	var h speaker.Heard
	err := e.server.ListPath(apiutil.ListPathRequest{
		TableType: api.TableType_TABLE_TYPE_ADJ_IN, Name: peer.String(), Family: familyOf(prefix),
		Prefixes: []*apiutil.LookupPrefix{{Prefix: prefix.String()}},
	}, func(nlri bgp.NLRI, paths []*apiutil.Path) {
		if nlri.String() != prefix.String() {
			return
		}
		for _, p := range paths {
			if !p.Withdrawal {
				h = heardOf(p)
			}
		}
	})
	return h, err
}

func heardOf(p *apiutil.Path) speaker.Heard {
	h := speaker.Heard{There: true}
	for _, a := range p.Attrs {
		switch v := a.(type) {
		case *bgp.PathAttributeCommunities:
			h.Communities = slices.Clone(v.Value)
		case *bgp.PathAttributeNextHop:
			h.NextHop = v.Value
		case *bgp.PathAttributeMpReachNLRI:
			h.NextHop = v.Nexthop
		}
	}
	return h
}
