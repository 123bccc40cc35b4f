package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/chaos/peers"
)

// How the systems beside each other are measured.
const (
	// peerDeaths is how often each system's node dies unless told otherwise.
	peerDeaths = 30
	// peerVoids bounds how often a system may fail to get ready; then it is left out.
	peerVoids = 5
	// lullFor is how long they run under load while nothing fails.
	lullFor = 3 * time.Minute
	// burners is how many busy loops the load is.
	burners = 4
)

var (
	// peerProbes of a death: each flow at 1 kHz.
	peerProbes = peers.Probes{Flows: 16, Hz: 1000}
	// lullProbes of minutes without a death.
	lullProbes = peers.Probes{Flows: 16, Hz: 100}
)

// The fastest that the others can be tuned to, and what an engineer who wants no
// false alarm would choose.
const (
	fastest = 10 * time.Millisecond
	sober   = 50 * time.Millisecond
)

func guard(interval time.Duration) netlab.BFD { return netlab.BFD{Interval: interval, Multiplier: 3} }

// withSystems installs what they need, brings systems up beside each other, and
// takes them down.
func withSystems(ctx context.Context, o Options, choose func(dir string, site map[string]*peers.Site) []peers.System, do func([]peers.System) error) (err error) {
	if err := lab.Deps(ctx, lab.KindPeers, sayer(o.Say)); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dyad-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	site := map[string]*peers.Site{}
	for _, k := range []string{netlab.KindFRR, netlab.KindBIRD} {
		site[k] = peers.NewSite(k, dir, o.Dyad, func(string, ...any) {})
	}
	all := slices.DeleteFunc(choose(dir, site), func(s peers.System) bool { return o.Systems != nil && !o.Systems.MatchString(s.Name()) })
	defer func() { err = errors.Join(err, peers.DownAll(context.WithoutCancel(ctx), all)) }()
	for _, s := range all {
		o.Say("up: %s", s.Name())
		if err := s.Up(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
	}
	return do(all)
}

// sayer turns lines written to it into progress.
type sayer func(string, ...any)

func (s sayer) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		s("%s", strings.TrimSpace(line))
	}
	return len(b), nil
}

// everyone is dyad both ways on both routers, and what one would build instead.
func everyone(o Options) func(string, map[string]*peers.Site) []peers.System {
	return func(dir string, site map[string]*peers.Site) []peers.System {
		return []peers.System{
			peers.Dyad(site[netlab.KindFRR], false),
			peers.Routed(netlab.KindFRR, guard(sober), dir, o.Dyad),
			peers.Dyad(site[netlab.KindBIRD], false),
			peers.Routed(netlab.KindFRR, guard(fastest), dir, o.Dyad),
			peers.Dyad(site[netlab.KindFRR], true),
			peers.Routed(netlab.KindBIRD, guard(fastest), dir, o.Dyad),
			peers.Dyad(site[netlab.KindBIRD], true),
			peers.VRRP(fastest, false, dir, o.Dyad),
		}
	}
}

// rivals kills a node of each system by turns.
func rivals(ctx context.Context, o Options, r *Recorder) error {
	return withSystems(ctx, o, everyone(o), func(all []peers.System) error {
		rows, err := turns(ctx, o, all, o.times(peerDeaths), true, "peers")
		for _, s := range all {
			row(r, "peers/"+s.Name(), rows[s.Name()])
		}
		ratios(r, rows)
		return err
	})
}

// turns kills a node of each system n times, one system after the other, so that
// what changes on the machine meanwhile changes for all of them. The order moves on
// by one with each round. Every death is kept in a file beside the results.
func turns(ctx context.Context, o Options, all []peers.System, n int, quiet bool, file string) (map[string][]peers.Death, error) {
	raw, err := o.raw(file + ".jsonl")
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	rows, voids := map[string][]peers.Death{}, map[string]int{}
	var failed []error
	for rep := range n {
		for i := range all {
			s := all[(i+rep)%len(all)]
			if voids[s.Name()] >= peerVoids {
				continue
			}
			d, err := one(ctx, s, quiet)
			if ctx.Err() != nil {
				return rows, errors.Join(ctx.Err(), err)
			}
			if err != nil {
				voids[s.Name()]++
				failed = append(failed, fmt.Errorf("repetition %d: %w", rep+1, err))
				o.Say("%d of %d: %v", rep+1, n, err)
				continue
			}
			d.Rep = rep + 1
			rows[s.Name()] = append(rows[s.Name()], d)
			o.Say("%d of %d: %-20s %7.1f ms, %d lost, machine busy %.0f %%%s", rep+1, n, s.Name(), d.OutageMS, d.LostPackets, d.BusyPercent, notBack(d))
			if err := json.NewEncoder(raw).Encode(d); err != nil {
				return rows, err
			}
		}
	}
	for _, s := range all {
		if voids[s.Name()] >= peerVoids || len(rows[s.Name()]) == 0 {
			return rows, fmt.Errorf("%s: %d deaths of %d: %w", s.Name(), len(rows[s.Name()]), n, errors.Join(failed...))
		}
	}
	return rows, nil
}

func notBack(d peers.Death) string {
	if d.Returned {
		return ""
	}
	return ", NOT BACK"
}

func one(ctx context.Context, s peers.System, quiet bool) (peers.Death, error) {
	if err := peers.AwaitReady(ctx, s); err != nil {
		return peers.Death{}, err
	}
	return peers.Strike(ctx, s, peerProbes, quiet)
}

// row records what one system's deaths came to.
func row(r *Recorder, name string, deaths []peers.Death) {
	rows := map[string][]float64{}
	for _, d := range deaths {
		if d.By == "" {
			continue
		}
		rows["detect"] = append(rows["detect"], d.DetectMS)
		rows["router"] = append(rows["router"], d.ConvergeMS)
		rows["bystander-lost"] = append(rows["bystander-lost"], float64(d.BystanderLost))
	}
	r.Spread(name+"/outage", "ms", outages(deaths))
	r.Spread(name+"/detect", "ms", rows["detect"])
	r.Spread(name+"/router", "ms", rows["router"])
	r.Spread(name+"/bystander-lost", "packets", rows["bystander-lost"])
}

func outages(deaths []peers.Death) (out []float64) {
	for _, d := range deaths {
		out = append(out, d.OutageMS)
	}
	return out
}

// ratios compares dyad, on the router where it was slower, with each of the others.
func ratios(r *Recorder, rows map[string][]peers.Death) {
	medians := map[string]float64{}
	for name, deaths := range rows {
		medians[name] = median(outages(deaths))
	}
	ours := max(medians["dyad-nexthop-frr"], medians["dyad-nexthop-bird"])
	for _, name := range []string{"frr-bfd-50x3", "frr-bfd-10x3", "bird-bfd-10x3", "keepalived-10ms"} {
		if theirs := medians[name]; ours > 0 && theirs > 0 {
			r.Figure("peers/ratio-to-"+name, ours/theirs, "times", len(rows[name]))
		}
	}
}

// raw opens a file for raw timelines, beside the results.
func (o Options) raw(name string) (io.WriteCloser, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(o.Dir, name))
}
