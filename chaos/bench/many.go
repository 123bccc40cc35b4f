package bench

import (
	"context"
	"fmt"
	"time"

	"dyad/chaos/netlab"
	"dyad/chaos/peers"
)

// manyRows are how many addresses a dying node carries.
var manyRows = []int{1000, 10000}

// manyDeaths is how often a node with many addresses dies unless told otherwise.
const manyDeaths = 5

// many kills a node that carries many addresses, and one that carries a single one,
// by turns.
func many(ctx context.Context, o Options, r *Recorder) error {
	choose := func(dir string, site map[string]*peers.Site) []peers.System {
		all := []peers.System{peers.Dyad(site[netlab.KindFRR], false)}
		for _, n := range manyRows {
			s := peers.NewManySite(n, dir, o.Dyad, o.Say)
			all = append(all, peers.Dyad(s, false), peers.Dyad(s, true))
		}
		return all
	}
	return withSystems(ctx, o, choose, func(all []peers.System) error {
		rows, err := turns(ctx, o, all, o.times(manyDeaths), true, "many")
		for _, s := range all {
			row(r, "many/"+s.Name(), rows[s.Name()])
		}
		single := median(outages(rows["dyad-nexthop-frr"]))
		for _, n := range manyRows {
			if last := median(outages(rows[fmt.Sprintf("dyad-nexthop-frr-%d", n)])); single > 0 && last > 0 {
				r.Figure(fmt.Sprintf("many/nexthop-%d-to-single", n), last/single, "times", o.times(manyDeaths))
			}
		}
		return err
	})
}

// How long the link between the nodes is watched before it is cut, while it is, and
// after it is mended.
const (
	uncutFor = 2 * time.Second
	cutFor   = 15 * time.Second
)

// cut cuts the link between the nodes, while both reach the router, and mends it.
func cut(ctx context.Context, o Options, r *Recorder) error {
	site := map[string]*peers.Site{}
	choose := func(_ string, s map[string]*peers.Site) []peers.System {
		site = s
		return []peers.System{peers.Dyad(s[netlab.KindFRR], false)}
	}
	return withSystems(ctx, o, choose, func(all []peers.System) error {
		if err := peers.AwaitReady(ctx, all[0]); err != nil {
			return err
		}
		ns := site[netlab.KindFRR].Lab().NS(netlab.NodeA)
		seen, err := peers.Watch(ctx, all, peerProbes, func(ctx context.Context) error {
			if err := peers.Lull(ctx, uncutFor, func(string, ...any) {}); err != nil {
				return err
			}
			if err := netlab.Cut(ns, netlab.PortCluster); err != nil {
				return err
			}
			if err := peers.Lull(ctx, cutFor, o.Say); err != nil {
				return err
			}
			if err := netlab.Mend(ns); err != nil {
				return err
			}
			return peers.Lull(ctx, cutFor, o.Say)
		})
		if err != nil {
			return err
		}
		return harm(o, r, "cut", seen)
	})
}
