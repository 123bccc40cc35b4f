package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
	"dyad/eventlog"
	"dyad/projections"
)

// What the benchmark of layer 2 probes, and for how long it waits for a level.
const (
	segmentHz    = 1000
	segmentInRow = 100
	segmentLimit = 90 * time.Second
)

// segment is a hard node death on a switch without a router that listens: the
// router only asks for the addresses, and its kernel's cache has to follow.
func segment(ctx context.Context, o Options, r *Recorder) error {
	return withLab(ctx, o, func(l *lab.Lab) error {
		vips, err := toSegment(ctx, l)
		if err != nil {
			return err
		}
		var outages, lost []float64
		deaths := o.times(drills)
		for i := range deaths {
			o.Say("layer 2: death %d of %d", i+1, deaths)
			out, back, err := segmentDeath(ctx, l, vips)
			if err != nil {
				return err
			}
			for _, d := range out {
				outages = append(outages, float64(d.Microseconds())/1000)
			}
			lost = append(lost, float64(back))
		}
		r.Spread("layer2/outage", "ms", outages)
		r.Spread("layer2/failback-lost", "packets", lost)
		return nil
	})
}

// toSegment gives a service of node-b addresses in the router's own subnet, and
// takes the router away as a peer.
func toSegment(ctx context.Context, l *lab.Lab) ([]netip.Addr, error) {
	if err := l.Prepare(ctx); err != nil {
		return nil, err
	}
	n, err := l.Node(netlab.NodeA)
	if err != nil {
		return nil, err
	}
	r4, err4 := eventlog.ParseRange("10.126.77.64/28")
	r6, err6 := eventlog.ParseRange("2001:db8:77::40/124")
	if err := errors.Join(err4, err6); err != nil {
		return nil, err
	}
	for _, c := range []projections.Command{
		projections.SetPool{Name: "segment", Ranges: []eventlog.Range{r4, r6}, Manual: true},
		projections.SetService{Name: "shop", Pool: "segment", Family: "dual", Prefer: netlab.NodeB},
		projections.RemovePeer{Switch: l.Plan.SwitchName, Address: l.Plan.RouterPeer},
	} {
		if err := n.Client().Do(ctx, c, "bench"); err != nil {
			return nil, err
		}
	}
	return []netip.Addr{netip.MustParseAddr("10.126.77.64"), netip.MustParseAddr("2001:db8:77::40")}, nil
}

// segmentDeath kills node-b, brings it back, and returns how long each address was
// away, and how many probes were lost on the way back.
func segmentDeath(ctx context.Context, l *lab.Lab, vips []netip.Addr) (outages []time.Duration, back int, err error) {
	var targets []probe.Target
	for _, a := range vips {
		targets = append(targets, probe.Target{Address: a, Service: "shop", Flows: 1})
	}
	p, err := probe.Start(ctx, probe.Config{
		Do:      func(f func() error) error { return netlab.Do(l.NS(netlab.Client), f) },
		Targets: targets, Port: l.Plan.EchoPort, Hz: segmentHz,
	})
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	var died, moved time.Duration
	err = func() error {
		if err := answeredBy(ctx, p, netlab.NodeB); err != nil {
			return err
		}
		died = time.Since(start)
		if err := netlab.Silence(l.NS(netlab.NodeB)); err != nil {
			return err
		}
		if err := answeredBy(ctx, p, netlab.NodeA); err != nil {
			return err
		}
		moved = time.Since(start)
		if err := errors.Join(l.PowerOff(netlab.NodeB), netlab.Unsilence(l.NS(netlab.NodeB)), l.PowerOn(netlab.NodeB, "")); err != nil {
			return err
		}
		return answeredBy(ctx, p, netlab.NodeB)
	}()
	res := p.Stop()
	if err != nil {
		return nil, 0, err
	}
	for _, s := range res.Streams {
		var longest time.Duration
		for _, x := range chaos.Outages(s.Samples) {
			switch {
			case x.To < died:
			case x.From < moved:
				longest = max(longest, x.Length())
			default:
				back += x.Lost
			}
		}
		outages = append(outages, longest)
	}
	return outages, back, nil
}

// answeredBy waits until every address is answered by one node, for a while.
func answeredBy(ctx context.Context, p *probe.Prober, node string) error {
	ctx, cancel := context.WithTimeout(ctx, segmentLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now := p.Now()
		if !slices.ContainsFunc(now, func(n probe.Now) bool { return n.InRow < segmentInRow || n.From[0] != node }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the addresses are not answered by %s: %+v: %w", node, now, ctx.Err())
		case <-tick.C:
		}
	}
}
