package bench

import (
	"context"
	"encoding/json"
	"errors"

	"dyad/chaos/netlab"
	"dyad/chaos/peers"
)

// underLoad runs dyad beside the fastest of the others while busy loops take the
// processors, first without a death, then with dyad's.
func underLoad(ctx context.Context, o Options, r *Recorder) error {
	choose := func(dir string, site map[string]*peers.Site) []peers.System {
		return []peers.System{
			peers.Dyad(site[netlab.KindFRR], false),
			peers.Routed(netlab.KindBIRD, guard(fastest), dir, o.Dyad),
			peers.VRRP(fastest, false, dir, o.Dyad),
			peers.VRRP(fastest, true, dir, o.Dyad),
		}
	}
	return withSystems(ctx, o, choose, func(all []peers.System) (err error) {
		for i, s := range all {
			err := peers.AwaitReady(ctx, s)
			if err != nil && (i == 0 || ctx.Err() != nil) {
				return err
			}
			if err != nil { // what it can't hold without load it won't hold under it
				o.Say("%v", err)
			}
		}
		stop, err := peers.Burn(burners)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		if err := lull(ctx, o, r, all); err != nil {
			return err
		}
		rows, err := turns(ctx, o, all[:1], o.times(peerDeaths), false, "load")
		row(r, "load/"+all[0].Name(), rows[all[0].Name()])
		return err
	})
}

// lull is a time under load in which nothing fails.
func lull(ctx context.Context, o Options, r *Recorder, all []peers.System) error {
	length := o.Lull
	if length == 0 {
		length = lullFor
	}
	seen, err := peers.Watch(ctx, all, lullProbes, func(ctx context.Context) error { return peers.Lull(ctx, length, o.Say) })
	if err != nil {
		return err
	}
	return harm(o, r, "load", seen)
}

// harm records what systems suffered while nothing failed that should harm them.
func harm(o Options, r *Recorder, row string, seen []peers.Calm) error {
	raw, err := o.raw(row + "-calm.jsonl")
	if err != nil {
		return err
	}
	defer raw.Close()
	for _, c := range seen {
		name := row + "/" + c.System
		r.Figure(name+"/lost", float64(c.Lost), "packets", c.Sent)
		r.Figure(name+"/suspicions", 60*float64(c.Suspicions)/c.Seconds, "a minute", c.Suspicions)
		r.Figure(name+"/gray", 60*float64(c.Gray)/c.Seconds, "a minute", c.Gray)
		r.Figure(name+"/wrong-verdicts", float64(c.Verdicts), "times", c.Verdicts)
		r.Figure(name+"/longest-outage", c.LongestMS, "ms", c.Outages)
		if err := json.NewEncoder(raw).Encode(c); err != nil {
			return err
		}
	}
	return nil
}
