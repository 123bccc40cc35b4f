package projections

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// MaxRanges bounds the ranges of one pool.
const MaxRanges = 256

// unusable are ranges no service address may come from.
var unusable = []struct {
	r   eventlog.Range
	why string
}{
	{mustRange("0.0.0.0/8"), "\"this network\" (RFC 791)"},
	{mustRange("127.0.0.0/8"), "loopback (RFC 1122)"},
	{mustRange("169.254.0.0/16"), "link-local (RFC 3927)"},
	{mustRange("224.0.0.0-255.255.255.255"), "multicast or reserved (RFC 5771, RFC 1112)"},
	{mustRange("::/127"), "unspecified or loopback (RFC 4291)"},
	{mustRange("fe80::/10"), "link-local (RFC 4291)"},
	{mustRange("ff00::/8"), "multicast (RFC 4291)"},
}

func mustRange(s string) eventlog.Range {
	r, err := eventlog.ParseRange(s)
	if err != nil {
		panic(err) // only called with the constants above
	}
	return r
}

func (f *folder) setPool(c SetPool) ([]eventlog.Draft, error) {
	if err := checkName("pool", c.Name); err != nil {
		return nil, err
	}
	what := "pool " + c.Name
	old, existed := f.s.Pools[c.Name]
	if existed && c.New {
		return nil, refuse("pool-exists", what, "dyad pool set "+c.Name+" RANGE…", "the pool exists")
	}
	if len(c.Ranges) == 0 || len(c.Ranges) > MaxRanges {
		return nil, refuse("pool-ranges", what, "give a range such as 192.0.2.0/24 or 192.0.2.10-192.0.2.20",
			"a pool has 1 to %d ranges, not %d", MaxRanges, len(c.Ranges))
	}
	if c.Switch != "" {
		if err := f.computeSwitch(c.Switch, "a pool"); err != nil {
			return nil, err
		}
	}
	for i, r := range c.Ranges {
		if err := f.checkRange(c, i, r); err != nil {
			return nil, err
		}
	}
	now := eventlog.Pool{Name: c.Name, Ranges: slices.Clone(c.Ranges), Switch: c.Switch, Manual: c.Manual}
	if err := f.checkInUse(now); err != nil {
		return nil, err
	}
	return change(eventlog.TypePoolSet, "pool/"+c.Name, now, old, existed)
}

func (f *folder) checkRange(c SetPool, i int, r eventlog.Range) error {
	what := fmt.Sprintf("pool %s, range %s", c.Name, r)
	if !r.First.IsValid() || !r.Last.IsValid() || r.Last.Less(r.First) || r.First.Is4() != r.Last.Is4() {
		return refuse("pool-range", what, "give a range such as 192.0.2.0/24", "it is not a range of one family that runs upwards")
	}
	for _, u := range unusable {
		if u.r.Overlaps(r) {
			return refuse("pool-range", what, "choose other addresses", "%s is %s", u.r, u.why)
		}
	}
	for _, o := range c.Ranges[:i] {
		if o.Overlaps(r) {
			return refuse("pool-overlap", what, "leave one of them out", "it overlaps %s of the same pool", o)
		}
	}
	if name, o, ok := f.overlaps(c.Name, r); ok {
		return refuse("pool-overlap", what, "dyad pool show "+name, "it overlaps %s of pool %s", o, name)
	}
	if node, a, ok := f.nodeIn(r); ok {
		return refuse("pool-contains-node", what, fmt.Sprintf("give ranges around %s", a), "it contains %s, an address of %s", a, node)
	}
	for _, k := range f.s.PeerKeys() {
		if r.Contains(k.Address) {
			return refuse("pool-contains-peer", what, fmt.Sprintf("give ranges around %s", k.Address),
				"it contains %s, a router on %s", k.Address, k.Switch)
		}
	}
	return f.checkReach(c, what, r)
}

// overlaps finds the first pool by name, other than the given one, that has
// addresses of r.
func (f *folder) overlaps(except string, r eventlog.Range) (name string, o eventlog.Range, found bool) {
	for n, p := range f.s.Pools {
		if n == except || found && name < n {
			continue
		}
		if i := slices.IndexFunc(p.Ranges, r.Overlaps); i >= 0 {
			name, o, found = n, p.Ranges[i], true
		}
	}
	return name, o, found
}

// checkReach: on a switch without a peer, addresses are told to the segment by
// ARP or NDP, so only addresses of that segment can be reached.
func (f *folder) checkReach(c SetPool, what string, r eventlog.Range) error {
	if c.Switch == "" || len(f.s.PeersOn(c.Switch)) > 0 {
		return nil
	}
	var subnets []netip.Prefix
	for _, p := range f.s.Switches[c.Switch].Ports {
		for _, q := range p.Addresses {
			if o := eventlog.PrefixRange(q.Masked()); o.Contains(r.First) && o.Contains(r.Last) {
				return nil
			}
			subnets = append(subnets, q.Masked())
		}
	}
	if len(subnets) == 0 {
		return nil
	}
	slices.SortFunc(subnets, netip.Prefix.Compare)
	return refuse("pool-unreachable", what, "dyad peer add ROUTER --switch "+c.Switch+" …, or choose addresses of that subnet",
		"%s has no BGP peer, so only addresses of its own subnet can be reached: %v", c.Switch, slices.Compact(subnets))
}

// nodeIn finds a node address inside r.
func (f *folder) nodeIn(r eventlog.Range) (node string, a netip.Addr, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(f.s.Nodes)) {
		n := f.s.Nodes[name]
		if n.Address.IsValid() && r.Contains(n.Address) {
			return name, n.Address, true
		}
		for _, p := range n.Addresses {
			if r.Contains(p.Addr()) {
				return name, p.Addr(), true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.s.Switches)) {
		for _, p := range f.s.Switches[name].Ports {
			for _, q := range p.Addresses {
				if r.Contains(q.Addr()) {
					return p.Node, q.Addr(), true
				}
			}
		}
	}
	return "", netip.Addr{}, false
}

// checkInUse refuses a change that would orphan an address in use.
func (f *folder) checkInUse(now eventlog.Pool) error {
	for _, name := range slices.Sorted(maps.Keys(f.s.Services)) {
		v := f.s.Services[name]
		if v.Pool != now.Name {
			continue
		}
		for _, a := range v.Addresses {
			if !slices.ContainsFunc(now.Ranges, func(r eventlog.Range) bool { return r.Contains(a) }) {
				return refuse("pool-in-use", "pool "+now.Name, "dyad service remove "+name+", or keep the address in a range",
					"service %s has %s, which the new ranges leave out", name, a)
			}
		}
	}
	return nil
}

func (f *folder) removePool(c RemovePool) ([]eventlog.Draft, error) {
	old, ok := f.s.Pools[c.Name]
	if !ok {
		return nil, refuse("pool-unknown", fmt.Sprintf("pool %q", c.Name), "dyad pool list", "there is no such pool")
	}
	if _, users := f.s.Used(c.Name); users > 0 {
		return nil, refuse("pool-in-use", "pool "+c.Name, "dyad service list, then remove them",
			"%d services have addresses from it", users)
	}
	return change(eventlog.TypePoolRemoved, "pool/"+c.Name, eventlog.Removed{Name: c.Name}, old, true)
}
