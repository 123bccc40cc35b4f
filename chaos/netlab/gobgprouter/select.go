package gobgprouter

import (
	"cmp"
	"net/netip"
	"slices"
)

// route is one path as the decision process compares it.
type route struct {
	LocalPref uint32
	Length    int // of the AS path (RFC 4271 section 9.1.2.2 a)
	Origin    uint8
	MED       uint32
	NextHop   netip.Addr
}

// compare orders better paths first, and returns 0 for paths that share the
// traffic. The steps are those of RFC 4271 section 9.1.2.2 up to MED, which is
// always compared: both nodes are in one AS.
func compare(a, b route) int {
	return cmp.Or(
		cmp.Compare(b.LocalPref, a.LocalPref),
		cmp.Compare(a.Length, b.Length),
		cmp.Compare(a.Origin, b.Origin),
		cmp.Compare(a.MED, b.MED),
	)
}

// maxPaths bounds the next hops of one prefix.
const maxPaths = 2

// best returns the next hops to forward by, sorted, at most maxPaths of them.
func best(routes []route) []netip.Addr {
	if len(routes) == 0 {
		return nil
	}
	top := slices.MinFunc(routes, compare)
	var out []netip.Addr
	for _, r := range routes {
		if compare(r, top) == 0 && !slices.Contains(out, r.NextHop) {
			out = append(out, r.NextHop)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out[:min(len(out), maxPaths)]
}
