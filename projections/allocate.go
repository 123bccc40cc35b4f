package projections

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dyad/eventlog"
)

// allocate gives a service its pool and addresses. A service keeps what it has
// as long as the request still fits it: addresses don't move because something
// else changed.
func (f *folder) allocate(c SetService, old eventlog.Service, existed bool) (string, []netip.Addr, error) {
	if len(c.Addresses) > 0 {
		return f.allocateAsked(c)
	}
	if existed && (c.Pool == "" || c.Pool == old.Pool) {
		if families, err := wantedFamilies(c, f.s.Pools[old.Pool]); err != nil {
			return "", nil, err
		} else if c.Family == "" || sameFamilies(old.Addresses, families) {
			return old.Pool, old.Addresses, nil
		}
	}
	pools, err := f.candidates(c)
	if err != nil {
		return "", nil, err
	}
	var tried []string
	for _, p := range pools {
		families, err := wantedFamilies(c, p)
		if err != nil {
			return "", nil, err
		}
		out, lack := f.allocateFrom(p, families, old)
		if lack == "" {
			return p.Name, out, nil
		}
		tried = append(tried, lack)
	}
	return "", nil, refuse("pool-exhausted", "service "+c.Name,
		"dyad pool set "+pools[0].Name+" with one more range, or remove a service", "%s", strings.Join(tried, "; "))
}

// allocateFrom takes one free address of each family, or says what is lacking.
func (f *folder) allocateFrom(p eventlog.Pool, families []bool, old eventlog.Service) ([]netip.Addr, string) {
	var out []netip.Addr
	for _, is4 := range families {
		if a, ok := addrsOf(old.Addresses, is4); ok && old.Pool == p.Name {
			out = append(out, a)
			continue
		}
		a, ok := f.nextFree(p, is4)
		if !ok {
			return nil, fmt.Sprintf("pool %s has no free %s address", p.Name, family(is4))
		}
		out = append(out, a)
	}
	return out, ""
}

// nextFree finds the lowest free address of a family in a pool.
func (f *folder) nextFree(p eventlog.Pool, is4 bool) (netip.Addr, bool) {
	for _, r := range p.Ranges {
		if r.First.Is4() != is4 {
			continue
		}
		start := r.First
		if from, ok := f.free[r]; ok {
			start = from
		}
		for a := start; r.Contains(a); a = a.Next() {
			if _, taken := f.s.Taken[a]; taken {
				continue
			}
			if f.free == nil {
				f.free = map[eventlog.Range]netip.Addr{}
			}
			f.free[r] = a
			return a, true
		}
	}
	return netip.Addr{}, false
}

// allocateAsked checks the addresses a request names.
func (f *folder) allocateAsked(c SetService) (string, []netip.Addr, error) {
	what := "service " + c.Name
	if c.Family != "" {
		return "", nil, refuse("family", what, "leave out one of the two", "the addresses already say the family")
	}
	pool := c.Pool
	var out []netip.Addr
	for _, a := range c.Addresses {
		a = a.Unmap()
		owner, ok := f.poolWith(a)
		switch {
		case !a.IsValid() || a.Zone() != "":
			return "", nil, refuse("service-address", what, "give an address such as 192.0.2.10", "%q is not an address without zone", a)
		case !ok:
			return "", nil, refuse("address-outside-pools", what, "dyad pool list", "%s lies in no pool", a)
		case pool != "" && owner != pool:
			return "", nil, refuse("address-outside-pool", what, "leave out the pool, or choose an address of it",
				"%s belongs to pool %s, not %s", a, owner, pool)
		case f.s.Taken[a] != "" && f.s.Taken[a] != c.Name:
			return "", nil, refuse("address-taken", what, "dyad explain "+a.String(), "%s belongs to service %s", a, f.s.Taken[a])
		}
		if _, dup := addrsOf(out, a.Is4()); dup {
			return "", nil, refuse("service-address", what, "give one address of each family", "it would have two %s addresses", family(a.Is4()))
		}
		pool = owner
		out = append(out, a)
	}
	if _, ok := f.s.Pools[pool]; !ok {
		return "", nil, refuse("pool-unknown", what, "dyad pool list", "there is no pool %q", pool)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return pool, out, nil
}

func sameFamilies(have []netip.Addr, want []bool) bool {
	if len(have) != len(want) {
		return false
	}
	for _, is4 := range want {
		if _, ok := addrsOf(have, is4); !ok {
			return false
		}
	}
	return true
}
