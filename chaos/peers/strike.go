package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dyad/chaos"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
)

// Probes is how the service is probed.
type Probes struct {
	// Flows is the number of source ports, shared out among the services, each
	// probed Hz times a second.
	Flows, Hz int
}

const (
	// wellFor is how many answers in a row make a flow well.
	wellFor = 50
	// probeLimit bounds waiting for answers before a death.
	probeLimit = 10 * time.Second
	// biteFor is how long a fault gets before an answer counts as recovery.
	biteFor = 300 * time.Millisecond
	// awayLimit bounds an outage: a system that needs longer did not recover.
	awayLimit = 5 * time.Second
	// lookEvery is how often the prober is asked.
	lookEvery = 10 * time.Millisecond
)

// Death is what one node death did to the service.
type Death struct {
	System string `json:"system"`
	Rep    int    `json:"rep"`
	// Node is the one that carried the service and was killed.
	Node string    `json:"node"`
	At   time.Time `json:"at"`
	// The figures are those of the flow that was away longest; the losses those of
	// all flows.
	chaos.Figures
	// Returned is false if the service did not answer again within 5 s.
	Returned bool `json:"returned"`
	// BystanderLost counts what the survivor's own address lost.
	BystanderLost int         `json:"bystander_lost"`
	Flows         []FlowTrace `json:"flows"`
	// MaxPauseMS is the longest time the prober itself stood still, BusyPercent how
	// busy the machine was right before.
	MaxPauseMS  float64 `json:"prober_max_pause_ms"`
	BusyPercent float64 `json:"busy_percent"`
}

// FlowTrace is the raw timeline of one flow: every run of losses, from the death
// on.
type FlowTrace struct {
	Address netip.Addr     `json:"address"`
	Flow    int            `json:"flow"`
	Sent    int            `json:"sent"`
	Unsent  int            `json:"unsent"`
	Outages []chaos.Outage `json:"outages"`
}

// teller is a system that tells when it did what.
type teller interface {
	Instants(ctx context.Context, survivor string) (chaos.Instants, error)
}

// Strike kills the node that carries the service, measures how long it is away,
// and brings the node back. The system must be ready; quiet waits for the machine
// to be idle first.
func Strike(ctx context.Context, s System, p Probes, quiet bool) (d Death, err error) {
	d = Death{System: s.Name()}
	if d.BusyPercent, err = calm(ctx, quiet); err != nil {
		return d, err
	}
	pr, err := start(ctx, s.Place(), p)
	if err != nil {
		return d, err
	}
	stopped := false
	defer func() {
		if !stopped {
			pr.Stop()
		}
	}()
	if d.Node, err = carrier(ctx, pr, s); err != nil {
		return d, fmt.Errorf("%s: %w", s.Name(), err)
	}
	d.At, err = s.Kill(ctx, d.Node)
	if err != nil {
		return d, errors.Join(fmt.Errorf("%s: kill %s: %w", s.Name(), d.Node, err), s.Heal(context.WithoutCancel(ctx)))
	}
	d.Returned, err = returned(ctx, pr)
	var in chaos.Instants
	if t, ok := s.(teller); ok && err == nil {
		in, err = t.Instants(ctx, other(d.Node))
	}
	// Before the node is back: what it would answer then is not the survivor's.
	pr.Halt()
	stopped = true
	seen := make(chan probe.Result, 1)
	go func() { seen <- pr.Stop() }()
	err = errors.Join(err, s.Heal(context.WithoutCancel(ctx)))
	d.fill(<-seen, s.Place(), in)
	return d, err
}

// start probes a system's services, and its bystander with one flow.
func start(ctx context.Context, at Place, p Probes) (*probe.Prober, error) {
	var targets []probe.Target
	for _, a := range at.Services {
		targets = append(targets, probe.Target{Address: a, Flows: max(1, p.Flows/len(at.Services))})
	}
	if at.Bystander.IsValid() {
		targets = append(targets, probe.Target{Address: at.Bystander, Flows: 1})
	}
	return probe.Start(ctx, probe.Config{
		Do:      func(f func() error) error { return netlab.Do(at.Client, f) },
		Targets: targets, Port: at.Port, Hz: p.Hz,
	})
}

// carrier waits until all is answered, and tells which node carries the services.
// The system must still be ready then: on a busy machine a node may be held for dead
// for a moment, and traffic moves.
func carrier(ctx context.Context, pr *probe.Prober, s System) (node string, err error) {
	why := ""
	err = look(ctx, probeLimit, func() bool {
		if node, why = carries(pr.Now(), s.Place()); why == "" {
			why = s.NotReady(ctx)
		}
		return why == ""
	})
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrNotReady, why, err)
	}
	return node, nil
}

// carries tells which node answers for all services, or why none does.
func carries(now []probe.Now, at Place) (node, why string) {
	for _, n := range now {
		if n.InRow < wellFor {
			return "", fmt.Sprintf("no answer from %s", n.Address)
		}
		if !slices.Contains(at.Services, n.Address) {
			continue
		}
		if node == "" {
			node = n.From[0]
		}
		if slices.ContainsFunc(n.From, func(f string) bool { return f != node }) {
			return "", fmt.Sprintf("both nodes answer: %v for %s", n.From, n.Address)
		}
	}
	for _, n := range now {
		if n.Address == at.Bystander && n.From[0] == node {
			return "", fmt.Sprintf("%s answers for %s too", node, n.Address)
		}
	}
	return node, ""
}

// returned waits until every flow is well again.
func returned(ctx context.Context, pr *probe.Prober) (bool, error) {
	bitten := time.Now().Add(biteFor)
	err := look(ctx, awayLimit, func() bool {
		return time.Now().After(bitten) &&
			!slices.ContainsFunc(pr.Now(), func(n probe.Now) bool { return n.InRow < wellFor })
	})
	if err != nil && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, ctx.Err()
}

// look polls a level until it is reached, ctx ends, or limit.
func look(ctx context.Context, limit time.Duration, level func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !level() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// fill computes the figures.
func (d *Death) fill(seen probe.Result, at Place, in chaos.Instants) {
	d.MaxPauseMS = chaos.Ms(seen.MaxPause)
	run := chaos.Run{Start: seen.Start, FaultAt: d.At, Instants: in}
	since := d.At.Sub(seen.Start)
	for _, s := range seen.Streams {
		if slices.Contains(at.Services, s.Address) {
			run.Streams = append(run.Streams, s)
		}
		t := FlowTrace{Address: s.Address, Flow: s.Flow, Outages: []chaos.Outage{}}
		after := chaos.Measure(chaos.Window(s.Samples, since, 1<<63-1))
		t.Sent, t.Unsent = after.Sent, after.Unsent
		for _, o := range chaos.Outages(s.Samples) {
			if o.To <= since {
				continue
			}
			o.From, o.To = o.From-since, o.To-since
			t.Outages = append(t.Outages, o)
		}
		if s.Address == at.Bystander {
			d.BystanderLost += after.Lost
		}
		d.Flows = append(d.Flows, t)
	}
	per, worst := chaos.Summarize(run)
	d.Figures = worst
	for _, a := range per {
		d.Returned = d.Returned && a.Returned
	}
}
