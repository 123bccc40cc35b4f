package address

import (
	"fmt"
	"net/netip"
	"slices"
)

// plan is what one Set has to do.
type plan struct {
	add, remove []netip.Addr // sorted
	foreign     []netip.Addr // wanted, but somebody else's; sorted
	forget      []netip.Addr // ours by the file, not wanted, and gone; sorted
}

// planFor compares what is wanted with what is there. here are the addresses on
// the interface, elsewhere those on all others, owned what the owner file
// claims for the interface.
//
// Invariant: remove is a part of owned. An address that is present and not
// owned appears in no list but foreign.
func planFor(here, elsewhere, owned, want map[netip.Addr]bool) plan {
	var p plan
	for a := range want {
		switch {
		case owned[a] && here[a]:
		case here[a] || elsewhere[a] && !owned[a]:
			p.foreign = append(p.foreign, a)
		default:
			p.add = append(p.add, a)
		}
	}
	for a := range owned {
		switch {
		case want[a]:
		case here[a]:
			p.remove = append(p.remove, a)
		default:
			p.forget = append(p.forget, a)
		}
	}
	for _, l := range [][]netip.Addr{p.add, p.remove, p.foreign, p.forget} {
		slices.SortFunc(l, netip.Addr.Compare)
	}
	return p
}

// checkWanted turns the wish into a set; an address that no host can hold as a
// service address is an error.
func checkWanted(want []netip.Addr) (map[netip.Addr]bool, error) {
	set := make(map[netip.Addr]bool, len(want))
	for _, a := range want {
		a = a.Unmap()
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() {
			return nil, fmt.Errorf("%s cannot be a service address: give a global unicast address without zone", a)
		}
		set[a] = true
	}
	return set, nil
}

func sortedKeys(m map[netip.Addr]bool) []netip.Addr {
	out := make([]netip.Addr, 0, len(m))
	for a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
