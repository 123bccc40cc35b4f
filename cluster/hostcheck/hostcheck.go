package hostcheck

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dyad/cluster"
	"dyad/cluster/api"
	"dyad/eventlog"
)

// dialBound bounds a connection to another node's port.
const dialBound = 2 * time.Second

// maxAtOnce bounds how many questions are on the wire at a time.
const maxAtOnce = 16

// Checker examines the host that it runs on.
type Checker struct {
	proc string // where /proc is
}

var _ cluster.Host = (*Checker)(nil)

// New makes a checker of this host.
func New() *Checker { return &Checker{proc: "/proc"} }

// Examine implements [cluster.Host].
func (c *Checker) Examine(ctx context.Context, q cluster.HostQuestion) []api.Finding {
	checks := []func() []api.Finding{
		func() []api.Finding { return c.kernel(q.Ports) },
		func() []api.Finding { return disk(ctx, q.DataDir) },
	}
	for _, p := range q.Ports {
		checks = append(checks, func() []api.Finding { return one(port(p)) })
	}
	for _, l := range q.Listeners {
		checks = append(checks, func() []api.Finding { return one(listener(ctx, l)) })
	}
	for _, n := range q.Neighbors {
		checks = append(checks, func() []api.Finding { return one(fullSize(ctx, n)) })
	}
	found := make([][]api.Finding, len(checks))
	slots := make(chan struct{}, maxAtOnce)
	var wg sync.WaitGroup
	for i, f := range checks {
		slots <- struct{}{}
		wg.Go(func() { found[i] = f(); <-slots })
	}
	wg.Wait()
	return slices.Concat(found...)
}

func one(f api.Finding) []api.Finding { return []api.Finding{f} }

// port tells whether an interface of a switch is there and up, and has the
// addresses that the log has of it.
func port(p eventlog.Port) api.Finding {
	f := api.Finding{Code: "interface", Subject: p.Interface, Result: api.ResultProblem}
	i, err := net.InterfaceByName(p.Interface)
	if err != nil {
		f.Text, f.Fix = "there is no such interface", "switches: in the configuration names it; ip link"
		return f
	}
	switch {
	case i.Flags&net.FlagUp == 0:
		f.Text, f.Fix = "it is down", "ip link set "+p.Interface+" up"
		return f
	case i.Flags&net.FlagRunning == 0:
		f.Text, f.Fix = "it is up and has no carrier", "the cable, or the other end"
		return f
	}
	have := prefixes(i)
	var gone []string
	for _, a := range p.Addresses {
		if !slices.Contains(have, a) {
			gone = append(gone, a.String())
		}
	}
	if len(gone) > 0 {
		f.Result, f.Text = api.ResultWarning, "it has no "+strings.Join(gone, ", ")+" any more, which it had when the agent started"
		f.Fix = "systemctl restart dyad, once the addresses are as they should be"
		return f
	}
	f.Result, f.Text = api.ResultOK, fmt.Sprintf("up, MTU %d", i.MTU)
	return f
}

func prefixes(i *net.Interface) []netip.Prefix {
	var out []netip.Prefix
	addrs, err := i.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// listener tells whether a port of another node takes a connection.
func listener(ctx context.Context, l cluster.Listener) api.Finding {
	f := api.Finding{Code: "listener", Subject: l.Name, Result: api.ResultOK}
	ctx, cancel := context.WithTimeout(ctx, dialBound)
	defer cancel()
	began := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Address.String())
	if err != nil {
		f.Result, f.Text = api.ResultProblem, fmt.Sprintf("%s takes no connection: %v", l.Address, err)
		f.Fix = fmt.Sprintf("let TCP port %d of %s pass; systemctl status dyad there", l.Address.Port(), l.Address.Addr())
		return f
	}
	_ = conn.Close() // nothing was said
	f.Text = fmt.Sprintf("%s connects in %s", l.Address, time.Since(began).Round(10*time.Microsecond))
	return f
}
