package speaker

import (
	"cmp"
	"slices"
)

// Delta is what turns one set of routes into another. Each list is sorted by
// prefix, then peer.
type Delta struct {
	// Add holds routes that are new, Modify routes whose attributes differ
	// (with the new ones), Withdraw routes to take back (with the old ones).
	Add, Modify, Withdraw []Route
}

// Empty tells whether nothing differs.
func (d Delta) Empty() bool { return len(d.Add)+len(d.Modify)+len(d.Withdraw) == 0 }

// Change counts the delta.
func (d Delta) Change() Change {
	return Change{Announced: len(d.Add), Changed: len(d.Modify), Withdrawn: len(d.Withdraw)}
}

// Diff compares two sets of routes. A route is known by its prefix and peer; of
// several with the same one the last in the slice counts. The arguments are not
// changed. Lists that are already sorted (see [SortRoutes]) cost one pass.
//
// Invariant: have without Withdraw, with Add and Modify put over it, is want.
func Diff(have, want []Route) Delta {
	have, want = ordered(have), ordered(want)
	var d Delta
	for len(have) > 0 || len(want) > 0 {
		switch c := front(have, want); {
		case c < 0:
			d.Withdraw = append(d.Withdraw, have[0])
			have = have[1:]
		case c > 0:
			d.Add = append(d.Add, want[0])
			want = want[1:]
		default:
			if !have[0].Attributes.Equal(want[0].Attributes) {
				d.Modify = append(d.Modify, want[0])
			}
			have, want = have[1:], want[1:]
		}
	}
	return d
}

// front compares the heads of two sorted lists; an empty list comes last.
func front(have, want []Route) int {
	switch {
	case len(want) == 0:
		return -1
	case len(have) == 0:
		return 1
	}
	return CompareRoutes(have[0], want[0])
}

// CompareRoutes orders routes by prefix, then peer; it does not look at the
// attributes.
func CompareRoutes(a, b Route) int {
	return cmp.Or(
		a.Prefix.Addr().Compare(b.Prefix.Addr()),
		cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
		a.Peer.Compare(b.Peer),
	)
}

// SortRoutes sorts in place by prefix, then peer, and returns the list without
// duplicates: of several routes with the same prefix and peer the last stays.
func SortRoutes(routes []Route) []Route {
	slices.SortStableFunc(routes, CompareRoutes)
	out := routes[:0]
	for i, r := range routes {
		if i+1 < len(routes) && CompareRoutes(r, routes[i+1]) == 0 {
			continue
		}
		out = append(out, r)
	}
	clear(routes[len(out):])
	return out
}

// ordered returns the list sorted and without duplicates; the list itself if it
// already is.
func ordered(routes []Route) []Route {
	for i := 1; i < len(routes); i++ {
		if CompareRoutes(routes[i-1], routes[i]) >= 0 {
			return SortRoutes(slices.Clone(routes))
		}
	}
	return routes
}
