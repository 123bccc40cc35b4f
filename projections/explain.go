package projections

import (
	"fmt"
	"net/netip"
	"slices"
)

// Explain says, from the first rule that applies, what is with an address: who
// has it, where it comes from, and what this node tells whom about it.
func Explain(s State, v View, a netip.Addr) (lines []string, service, pool string, anns Announcements) {
	a = a.Unmap()
	f := newFolder(s)
	if node, ok := f.nodeWith(a); ok {
		return []string{fmt.Sprintf("%s is an address of %s; dyad never announces node addresses", a, node)}, "", "", nil
	}
	for _, k := range s.PeerKeys() {
		if k.Address == a {
			return []string{fmt.Sprintf("%s is a router, the BGP peer on %s", a, k.Switch)}, "", "", nil
		}
	}
	pool, ok := f.poolWith(a)
	if !ok {
		return []string{fmt.Sprintf("%s lies in no pool; try: dyad pool list", a)}, "", "", nil
	}
	service, ok = s.Taken[a]
	if !ok {
		return []string{fmt.Sprintf("%s lies in pool %s and is free", a, pool)}, "", pool, nil
	}
	sv := s.Services[service]
	lines = append(lines, fmt.Sprintf("%s belongs to service %s, from pool %s, placement %s", a, service, pool, sv.Placement))
	if sv.Preferred != "" {
		how := "balanced"
		if sv.Pinned {
			how = "chosen"
		}
		lines = append(lines, fmt.Sprintf("its preferred node is %s (%s)", sv.Preferred, how))
	}
	lines = append(lines, fmt.Sprintf("%s is at stance %s: %s", v.Self, v.Stance, v.Reason.Text))
	for _, an := range Desired(s, v) {
		if an.Prefix.Addr() != a {
			continue
		}
		anns = append(anns, an)
		lines = append(lines, Describe(an))
	}
	return slices.Clip(lines), service, pool, anns
}

// Describe puts an announcement into one sentence.
func Describe(a Announcement) string {
	switch {
	case a.Announced && a.Claim.Mode != "":
		return fmt.Sprintf("%s answers for it on %s (%s): %s", a.Node, a.Switch, a.Interface, a.Reason.Text)
	case a.Announced:
		return fmt.Sprintf("%s announces it to %s at %s: %s", a.Node, a.Peer, a.Rung, a.Reason.Text)
	}
	return fmt.Sprintf("%s withholds it on %s: %s", a.Node, a.Switch, a.Reason.Text)
}
