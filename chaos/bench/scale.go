package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dyad/chaos"
	"dyad/chaos/drill"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// The scale benchmark.
const (
	scaleServices = 1000
	scalePool     = "100.64.0.0/20"
	scaleWait     = 30 * time.Second
	scalePoll     = 20 * time.Millisecond
)

// scale applies 1,000 services with one command, and kills a node under them.
func scale(ctx context.Context, o Options, r *Recorder) error {
	return withLab(ctx, o, func(l *lab.Lab) error {
		if err := l.Prepare(ctx); err != nil {
			return err
		}
		file := filepath.Join(l.Dir, "scale.yaml")
		if err := os.WriteFile(file, scaleFile(), 0o600); err != nil {
			return err
		}
		began := time.Now()
		answer := make(chan error, 1)
		go func() {
			_, err := l.Dyad(ctx, netlab.NodeA, "apply", "-f", file)
			answer <- err
		}()
		inRouter, err := awaitRoutes(ctx, l, scaleServices)
		if aerr := <-answer; aerr != nil {
			return aerr
		}
		if err != nil {
			return err
		}
		r.Figure("scale-1000/apply-answered", time.Since(began).Seconds(), "s", 1)
		r.Figure("scale-1000/apply-to-router", inRouter.Sub(began).Seconds(), "s", 1)
		return moves(ctx, o, l, r)
	})
}

func scaleFile() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "kind: Pool\nname: scale\nranges: [%s]\n", scalePool)
	for i := range scaleServices {
		fmt.Fprintf(&b, "---\nkind: Service\nname: s%04d\npool: scale\n", i)
	}
	return []byte(b.String())
}

// moves kills a node and watches the router move its half of the routes.
func moves(ctx context.Context, o Options, l *lab.Lab, r *Recorder) error {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan []time.Time, 1)
	dead := l.Plan.NodePeer[netlab.NodeB]
	pool := netip.MustParsePrefix(scalePool)
	failed := make(chan error, 1)
	go func() {
		times, err := netlab.WatchMoves(watch, l.NS(netlab.Router), pool, dead)
		seen <- times
		failed <- err
	}()
	s, err := chaos.Find(string(chaos.FaultHostSilent))
	if err != nil {
		return err
	}
	s.Target, s.HealAfter = netlab.NodeB, deadFor
	services, err := addressesOf(ctx, l, "web", "dns")
	if err != nil {
		return err
	}
	rep, err := drill.Run(ctx, drill.Options{Lab: l, Scenario: s, Addresses: services, Reason: "bench", Say: o.Say})
	stop()
	times := <-seen
	if werr := <-failed; werr != nil && err == nil {
		err = werr
	}
	if err != nil {
		return err
	}
	var during []time.Time
	for _, t := range times {
		if t.After(rep.FaultAt) && t.Before(rep.HealedAt) {
			during = append(during, t)
		}
	}
	// Active-standby: half of the services prefer the node that dies.
	if len(during) < scaleServices/2 {
		return fmt.Errorf("only %d routes moved, of the %d that went to the dead node", len(during), scaleServices/2)
	}
	r.Figure("scale-1000/moved", float64(len(during)), "routes", 1)
	r.Figure("scale-1000/first-to-last", during[len(during)-1].Sub(during[0]).Seconds(), "s", 1)
	r.Figure("scale-1000/death-to-last", during[len(during)-1].Sub(rep.FaultAt).Seconds(), "s", 1)
	r.Figure("scale-1000/outage", rep.OutageMS, "ms", 1)
	return nil
}

// awaitRoutes returns when the router forwards to n addresses of the pool.
func awaitRoutes(ctx context.Context, l *lab.Lab, n int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, scaleWait)
	defer cancel()
	pool := netip.MustParsePrefix(scalePool)
	t := time.NewTicker(scalePoll)
	defer t.Stop()
	for {
		table, err := netlab.Table(l.NS(netlab.Router))
		if err != nil {
			return time.Time{}, err
		}
		have := 0
		for p := range table {
			if pool.Contains(p.Addr()) {
				have++
			}
		}
		if have >= n {
			return time.Now(), nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("the router has %d of %d routes: %w", have, n, ctx.Err())
		}
	}
}

// addressesOf looks up the addresses of services.
func addressesOf(ctx context.Context, l *lab.Lab, names ...string) ([]netip.Addr, error) {
	node, err := l.Node(netlab.NodeA)
	if err != nil {
		return nil, err
	}
	services, err := node.Client().Services(ctx)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, s := range services {
		if slices.Contains(names, s.Name) {
			out = append(out, s.Addresses...)
		}
	}
	return out, nil
}
