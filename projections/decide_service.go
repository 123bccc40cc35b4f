package projections

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dyad/eventlog"
)

// Bounds and defaults of a service's local check.
const (
	MinCheckTime         = 100 * time.Millisecond
	MaxCheckTime         = time.Hour
	DefaultCheckInterval = time.Second
	DefaultCheckTimeout  = 500 * time.Millisecond
	DefaultCheckRise     = 2
	DefaultCheckFall     = 3
	MaxCheckCount        = 100
)

func (f *folder) setService(c SetService) ([]eventlog.Draft, error) {
	if err := checkName("service", c.Name); err != nil {
		return nil, err
	}
	what := "service " + c.Name
	old, existed := f.s.Services[c.Name]
	if existed && c.New {
		return nil, refuse("service-exists", what, "dyad service set "+c.Name+" …", "the service exists, at %v", old.Addresses)
	}
	now := eventlog.Service{Name: c.Name, Placement: c.Placement}
	if now.Placement == "" {
		now.Placement = eventlog.ActiveStandby
	}
	if now.Placement != eventlog.ActiveStandby && now.Placement != eventlog.ActiveActive {
		return nil, refuse("placement", what, "use active-standby or active-active", "there is no placement %q", c.Placement)
	}
	var err error
	if now.Check, err = checkCheck(what, c.Check); err != nil {
		return nil, err
	}
	if now.Pool, now.Addresses, err = f.allocate(c, old, existed); err != nil {
		return nil, err
	}
	if now.Preferred, err = f.prefer(c, old, now.Placement); err != nil {
		return nil, err
	}
	now.Pinned = c.Prefer != "" && now.Preferred != ""
	return change(eventlog.TypeServiceSet, "service/"+c.Name, now, old, existed)
}

// prefer picks the preferred node: the one asked for, else the one it has, else
// the one with the fewest services, so that a failover never moves the other
// half of the flows.
func (f *folder) prefer(c SetService, old eventlog.Service, placement eventlog.Placement) (string, error) {
	names := f.s.NodeNames()
	if c.Prefer != "" && !slices.Contains(names, c.Prefer) {
		return "", refuse("node-unknown", "service "+c.Name, "dyad node list",
			"there is no node %q; there are: %s", c.Prefer, strings.Join(names, ", "))
	}
	switch {
	case placement == eventlog.ActiveActive:
		if c.Prefer != "" {
			return "", refuse("placement", "service "+c.Name, "leave out the preferred node, or use active-standby",
				"active-active uses both nodes alike")
		}
		return "", nil
	case c.Prefer != "":
		return c.Prefer, nil
	case slices.Contains(names, old.Preferred):
		return old.Preferred, nil
	}
	if f.preferred == nil {
		f.preferred = map[string]int{}
		for _, v := range f.s.Services {
			if v.Preferred != "" {
				f.preferred[v.Preferred]++
			}
		}
	}
	best := ""
	for _, n := range names {
		if best == "" || f.preferred[n] < f.preferred[best] {
			best = n
		}
	}
	return best, nil
}

func checkCheck(what string, c *eventlog.Check) (*eventlog.Check, error) {
	if c == nil {
		return nil, nil
	}
	v := *c
	if !slices.Contains([]string{"tcp", "http", "exec"}, v.Kind) || strings.TrimSpace(v.Target) == "" {
		return nil, refuse("check", what, "use tcp:HOST:PORT, http:URL or exec:COMMAND", "check %q %q is not one", v.Kind, v.Target)
	}
	setDefault(&v.Interval, DefaultCheckInterval)
	setDefault(&v.Timeout, DefaultCheckTimeout)
	setDefault(&v.Rise, DefaultCheckRise)
	setDefault(&v.Fall, DefaultCheckFall)
	for _, d := range []time.Duration{v.Interval, v.Timeout} {
		if d < MinCheckTime || d > MaxCheckTime {
			return nil, refuse("check", what, "choose 100ms–1h", "a check's interval and timeout can't be %s", d)
		}
	}
	for _, n := range []int{v.Rise, v.Fall} {
		if n < 1 || n > MaxCheckCount {
			return nil, refuse("check", what, "choose 1–100", "a check's rise and fall can't be %d", n)
		}
	}
	return &v, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (f *folder) removeService(c RemoveService) ([]eventlog.Draft, error) {
	old, ok := f.s.Services[c.Name]
	if !ok {
		return nil, refuse("service-unknown", fmt.Sprintf("service %q", c.Name), "dyad service list", "there is no such service")
	}
	return change(eventlog.TypeServiceRemoved, "service/"+c.Name, eventlog.Removed{Name: c.Name}, old, true)
}

// wantedFamilies lists the families a request asks for, true for IPv4. With no
// family given it is IPv4 if the pool has any, else IPv6.
func wantedFamilies(c SetService, p eventlog.Pool) ([]bool, error) {
	has4 := slices.ContainsFunc(p.Ranges, func(r eventlog.Range) bool { return r.First.Is4() })
	switch c.Family {
	case "":
		return []bool{has4}, nil
	case "ipv4":
		return []bool{true}, nil
	case "ipv6":
		return []bool{false}, nil
	case "dual":
		return []bool{true, false}, nil
	}
	return nil, refuse("family", "service "+c.Name, "use ipv4, ipv6 or dual", "there is no family %q", c.Family)
}

// pools lists the pools a request may use, in the order they are tried.
func (f *folder) candidates(c SetService) ([]eventlog.Pool, error) {
	if c.Pool != "" {
		p, ok := f.s.Pools[c.Pool]
		if !ok {
			return nil, refuse("pool-unknown", "service "+c.Name, "dyad pool list", "there is no pool %q", c.Pool)
		}
		return []eventlog.Pool{p}, nil
	}
	var out []eventlog.Pool
	for _, name := range slices.Sorted(maps.Keys(f.s.Pools)) {
		if p := f.s.Pools[name]; !p.Manual {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, refuse("no-pool", "service "+c.Name, "dyad pool add NAME RANGE…", "there is no pool to take an address from")
	}
	return out, nil
}

func family(is4 bool) string {
	if is4 {
		return "IPv4"
	}
	return "IPv6"
}

func addrsOf(list []netip.Addr, is4 bool) (netip.Addr, bool) {
	for _, a := range list {
		if a.Is4() == is4 {
			return a, true
		}
	}
	return netip.Addr{}, false
}
