package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// routed is a routing daemon on the nodes and on the router, BGP between them
// with BFD: what one builds with the tools of a distribution.
type routed struct {
	stand
	kind   string
	bfd    netlab.BFD
	router netlab.Guarded
	nodes  map[string]netlab.Guarded
}

// Routed is FRR or BIRD on nodes and router with BFD at that interval. Node-b is
// preferred, by MED; the hold time is that of dyad's lab.
func Routed(kind string, bfd netlab.BFD, dir, binary string) System {
	name := fmt.Sprintf("%s-bfd-%dx%d", kind, bfd.Interval.Milliseconds(), bfd.Multiplier)
	return &routed{stand: newStand(name, dir, binary), kind: kind, bfd: bfd, nodes: map[string]netlab.Guarded{}}
}

// med of what each node announces: the lower one is preferred.
var med = map[string]uint32{netlab.NodeA: 100, netlab.NodeB: 50}

// controls describes the three daemons.
func (r *routed) controls() (err error) {
	p := r.plan
	c := netlab.RouterConfig{
		NS: r.top.Full(netlab.Router), Dir: filepath.Join(r.dir, netlab.Router), ASN: p.RouterASN,
		RouterID: p.RouterPeer, HoldTime: p.HoldTime, BFD: &r.bfd,
	}
	for _, n := range lab.NodeNames() {
		c.Peers = append(c.Peers, netlab.RouterPeer{Address: p.NodePeer[n], ASN: p.NodeASN})
	}
	if r.router, err = netlab.NewGuarded(r.kind, c); err != nil {
		return err
	}
	for _, n := range lab.NodeNames() {
		r.nodes[n], err = netlab.NewGuarded(r.kind, netlab.RouterConfig{
			NS: r.top.Full(n), Dir: filepath.Join(r.dir, n), ASN: p.NodeASN, RouterID: p.NodePeer[n], HoldTime: p.HoldTime,
			Peers: []netlab.RouterPeer{{Address: p.RouterPeer, ASN: p.RouterASN}},
			BFD:   &r.bfd, Announce: []netip.Prefix{r.host()}, MED: med[n],
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *routed) Up(ctx context.Context) error {
	if err := errors.Join(r.build(), r.controls()); err != nil {
		return err
	}
	if err := r.router.Start(ctx); err != nil {
		return err
	}
	for _, n := range lab.NodeNames() {
		if err := r.nodes[n].Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *routed) NotReady(ctx context.Context) string {
	table, err := netlab.Table(r.top.Full(netlab.Router))
	if err != nil {
		return err.Error()
	}
	if hops := table[r.host()]; !slices.Equal(hops, []netip.Addr{r.plan.NodePeer[netlab.NodeB]}) {
		return fmt.Sprintf("the router forwards to %v", hops)
	}
	sessions, err := r.router.Sessions(ctx)
	if err != nil {
		return err.Error()
	}
	guarded, err := r.router.BFD(ctx)
	if err != nil {
		return err.Error()
	}
	for _, n := range lab.NodeNames() {
		a := r.plan.NodePeer[n]
		if sessions[a] != "Established" {
			return fmt.Sprintf("the session with %s is %q", n, sessions[a])
		}
		// Without it the death would last as long as the hold time.
		if !strings.EqualFold(guarded[a], "up") {
			return fmt.Sprintf("BFD with %s is %q", n, guarded[a])
		}
	}
	return ""
}

func (r *routed) Heal(ctx context.Context) error {
	if r.dead == "" {
		return nil
	}
	n := r.nodes[r.dead]
	// What the killed daemons left goes first, as it would with a reboot.
	if err := errors.Join(n.Stop(ctx), netlab.Unsilence(r.top.Full(r.dead))); err != nil {
		return err
	}
	r.dead = ""
	return n.Start(ctx)
}

// Count counts the sessions that the router tore down.
func (r *routed) Count(ctx context.Context) (Count, error) {
	n, err := r.router.Dropped(ctx)
	return Count{Verdicts: n}, err
}

func (r *routed) Down(ctx context.Context) error {
	var errs []error
	for _, c := range r.nodes {
		errs = append(errs, c.Stop(ctx))
	}
	if r.router != nil {
		errs = append(errs, r.router.Stop(ctx))
	}
	return errors.Join(append(errs, r.remove())...)
}
