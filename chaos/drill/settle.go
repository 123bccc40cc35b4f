package drill

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
	"dyad/eventlog"
	"dyad/speaker"
)

const (
	// settleLimit bounds waiting for a settled state before a fault.
	settleLimit = 60 * time.Second
	// settleFor is how long the state must hold to count as settled.
	settleFor = time.Second
)

// table is what the router forwards by, for the probed addresses.
type table map[netip.Addr][]netip.Addr

func (t table) equal(o table) bool {
	if len(t) != len(o) {
		return false
	}
	for a, hops := range t {
		if !slices.Equal(hops, o[a]) {
			return false
		}
	}
	return true
}

func readTable(l *lab.Lab, targets []probe.Target) (table, string) {
	all, err := netlab.Table(l.NS(netlab.Router))
	if err != nil {
		return nil, err.Error()
	}
	out := table{}
	for _, t := range targets {
		hops := all[netip.PrefixFrom(t.Address, t.Address.BitLen())]
		if len(hops) == 0 {
			return nil, fmt.Sprintf("the router has no route to %s", t.Address)
		}
		out[t.Address] = hops
	}
	return out, ""
}

// notSettled says why the cluster is not as it should be before a fault.
func notSettled(ctx context.Context, l *lab.Lab, targets []probe.Target) (table, string) {
	if why := l.PairNotReady(ctx); why != "" {
		return nil, why
	}
	for _, name := range lab.NodeNames() {
		n, err := l.Node(name)
		if err != nil {
			return nil, err.Error()
		}
		s, err := n.Client().Status(ctx)
		if err != nil {
			return nil, err.Error()
		}
		if len(s.Sessions) == 0 {
			return nil, name + " has no BGP peer; add one: dyad peer set"
		}
		for _, x := range s.Sessions {
			if x.State != speaker.Established {
				return nil, fmt.Sprintf("%s: session with %s is %s", name, x.Peer, x.State)
			}
		}
	}
	return readTable(l, targets)
}

// settle waits until the cluster is settled and stays so, and returns what the
// router then forwards by. With want, the router must forward by just that.
func settle(ctx context.Context, l *lab.Lab, targets []probe.Target, want table, limit time.Duration, say func(string, ...any)) (table, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * pollEvery)
	defer tick.Stop()
	var since, told time.Time
	var last table
	told = time.Now()
	for {
		now, why := notSettled(ctx, l, targets)
		switch {
		case why == "" && want != nil && !now.equal(want):
			why = fmt.Sprintf("the router forwards by %v, before the fault by %v", now, want)
			since = time.Time{}
		case why != "" || !now.equal(last):
			since = time.Time{}
		}
		last = now
		if why == "" {
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) >= settleFor {
				return now, nil
			}
		} else if time.Since(told) > time.Second {
			told = time.Now()
			say("waiting: %s", why)
		}
		select {
		case <-ctx.Done():
			if why == "" {
				why = "it does not stay as it is"
			}
			return nil, fmt.Errorf("the cluster does not settle: %s: %w\n  try: dyad lab status, dyad status", why, ctx.Err())
		case <-tick.C:
		}
	}
}

// autoFlows is the number of flows to an address that both nodes announce: with
// fewer, all might hash to the survivor.
const autoFlows = 8

// targets are the addresses to probe: the given ones, or those of all services.
func targets(ctx context.Context, l *lab.Lab, survivor lab.Node, only []netip.Addr, flows int) ([]probe.Target, error) {
	services, err := survivor.Client().Services(ctx)
	if err != nil {
		return nil, err
	}
	var out []probe.Target
	for _, s := range services {
		for _, a := range s.Addresses {
			if len(only) > 0 && !slices.Contains(only, a) {
				continue
			}
			t := probe.Target{Address: a, Service: s.Name, Flows: flows}
			if flows == 0 {
				t.Flows = 1
				if s.Placement == eventlog.ActiveActive {
					t.Flows = autoFlows
				}
			}
			out = append(out, t)
		}
	}
	for _, a := range only {
		if !slices.ContainsFunc(out, func(t probe.Target) bool { return t.Address == a }) {
			return nil, fmt.Errorf("no service has the address %s\n  try: dyad service list", a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no service to probe\n  try: dyad service add NAME")
	}
	slices.SortFunc(out, func(a, b probe.Target) int { return a.Address.Compare(b.Address) })
	return out, nil
}
