package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dyad/chaos/netlab"
	"dyad/eventlog"
	"dyad/projections"
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
	a, err := l.Node(netlab.NodeA)
	if err != nil {
		return err
	}
	hold := int64(l.Plan.HoldTime)
	for _, c := range []projections.Command{
		projections.SetPeer{
			Switch: l.Plan.SwitchName, Address: l.Plan.RouterPeer,
			PeerASN: int64(l.Plan.RouterASN), SelfASN: int64(l.Plan.NodeASN), HoldTime: &hold,
		},
		projections.SetPool{Name: "demo", Ranges: []eventlog.Range{eventlog.PrefixRange(l.PoolPrefix())}},
		projections.SetService{Name: "web", Pool: "demo", Prefer: netlab.NodeA},
		projections.SetService{Name: "dns", Pool: "demo", Prefer: netlab.NodeB},
	} {
		if err := a.Client().Do(ctx, c, "prepare the lab for drills"); err != nil {
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
