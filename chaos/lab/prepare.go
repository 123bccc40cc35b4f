package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dyad/chaos/netlab"
)

// prepareLimit bounds preparing a lab for drills.
const prepareLimit = time.Minute

// Dyad runs a dyad command that asks the agent of a node, and returns what it
// printed.
func (l *Lab) Dyad(ctx context.Context, node string, args ...string) (string, error) {
	return l.Exec(ctx, node, append([]string{l.Binary}, args...)...)
}

// Prepare makes a lab ready for drills: the router as a peer of both nodes with
// a hold time of 90 s, a pool, and two services, web preferring node-a and dns
// preferring node-b. It returns when the router has sessions with both nodes
// and routes to both services.
func (l *Lab) Prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, prepareLimit)
	defer cancel()
	for _, args := range [][]string{
		{
			"hcs", "Set-HcsBGPPeer", "-PeerAddress", l.Plan.RouterPeer.String(), "-PeerAsn", fmt.Sprint(l.Plan.RouterASN),
			"-SelfAsn", fmt.Sprint(l.Plan.NodeASN), "-SwitchName", l.Plan.SwitchName, "-HoldTimeInSeconds", "90",
		},
		{"pool", "add", "demo", l.PoolPrefix().String()},
		{"service", "add", "web", "--pool", "demo", "--prefer", netlab.NodeA},
		{"service", "add", "dns", "--pool", "demo", "--prefer", netlab.NodeB},
	} {
		if _, err := l.Dyad(ctx, netlab.NodeA, args...); err != nil {
			return err
		}
	}
	r, err := l.RouterControl()
	if err != nil {
		return err
	}
	if err := netlab.WaitEstablished(ctx, r, l.Plan.NodePeer[netlab.NodeA], l.Plan.NodePeer[netlab.NodeB]); err != nil {
		return err
	}
	return l.wait(ctx, "the routes of two services", func() string {
		t, err := netlab.Table(l.NS(netlab.Router))
		switch {
		case err != nil:
			return err.Error()
		case len(t) < 2:
			return fmt.Sprintf("the router has %d", len(t))
		}
		return ""
	})
}

// PoolPrefix is the first /28 of the plan's pool.
func (l *Lab) PoolPrefix() netip.Prefix {
	first, _, _ := strings.Cut(l.Plan.Pool, "-")
	a, err := netip.ParseAddr(first)
	if err != nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, 28).Masked()
}
