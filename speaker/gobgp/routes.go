package gobgp

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"dyad/speaker"
)

// unsure marks a route of which GoBGP may or may not have been given the newest
// form: no wish has this prepend, so the next Set hands it over again, or
// withdraws it.
const unsure = -1

// carried lists the wanted routes that a session can carry, and counts those it
// cannot. Routes of peers that are not wished for are left out.
func (s *Speaker) carried() []speaker.Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	fits := map[netip.Addr][]bgp.Family{}
	for a, n := range s.peers {
		fits[a] = s.opts.families(n.conf)
		clear(n.withheld)
		clear(n.installed)
	}
	out := make([]speaker.Route, 0, len(s.wanted))
	for _, r := range s.wanted {
		n := s.peers[r.Peer]
		if n == nil {
			continue
		}
		f := familyOf(r.Prefix)
		if !slices.Contains(fits[r.Peer], f) {
			n.withheld[f]++
			continue
		}
		n.installed[f]++
		out = append(out, r)
	}
	return out
}

// hand gives the differences to GoBGP, peer by peer: what is new or better
// first, withdrawals last. have then says what was given.
func (s *Speaker) hand(ctx context.Context, d speaker.Delta) (speaker.Change, error) {
	var c speaker.Change
	var errs []error
	put := func(routes []speaker.Route) int {
		n, err := s.handEach(ctx, routes, false)
		errs = append(errs, err)
		return n
	}
	c.Changed = put(d.Modify)
	c.Announced = put(d.Add)
	n, err := s.handEach(ctx, d.Withdraw, true)
	c.Withdrawn = n
	return c, errors.Join(append(errs, err)...)
}

// handEach hands routes over in batches of one peer each, and returns how many.
func (s *Speaker) handEach(ctx context.Context, routes []speaker.Route, withdraw bool) (int, error) {
	byPeer := map[netip.Addr][]speaker.Route{}
	var order []netip.Addr
	for _, r := range routes {
		if byPeer[r.Peer] == nil {
			order = append(order, r.Peer)
		}
		byPeer[r.Peer] = append(byPeer[r.Peer], r)
	}
	done := 0
	var errs []error
	given := make([]speaker.Route, 0, len(routes))
	for _, a := range order {
		n := s.neighborAt(a)
		for part := range slices.Chunk(byPeer[a], batchSize) {
			if err := ctx.Err(); err != nil {
				errs = append(errs, err)
				break
			}
			if err := s.handBatch(n, part, withdraw); err != nil {
				errs = append(errs, err)
				for _, r := range part {
					r.Attributes.Prepend = unsure
					given = append(given, r)
				}
				continue
			}
			done += len(part)
			if !withdraw {
				given = append(given, part...)
			} else {
				s.have = without(s.have, part)
			}
		}
	}
	s.have = speaker.SortRoutes(append(s.have, given...))
	return done, errors.Join(errs...)
}

func (s *Speaker) handBatch(n *neighbor, routes []speaker.Route, withdraw bool) error {
	paths := make([]*apiutil.Path, 0, len(routes))
	for _, r := range routes {
		r.Attributes.Prepend = max(r.Attributes.Prepend, 0)
		p, err := s.opts.path(n.conf, r)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	if withdraw {
		return s.engine.take(n.vrf, paths)
	}
	return s.engine.put(n.vrf, paths)
}

// without removes routes, both lists sorted, from have.
func without(have, gone []speaker.Route) []speaker.Route {
	out := have[:0]
	for _, r := range have {
		for len(gone) > 0 && speaker.CompareRoutes(gone[0], r) < 0 {
			gone = gone[1:]
		}
		if len(gone) > 0 && speaker.CompareRoutes(gone[0], r) == 0 {
			continue
		}
		out = append(out, r)
	}
	return out
}
