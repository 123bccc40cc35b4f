package peers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dyad/chaos"
	"dyad/chaos/probe"
)

// Calm is what a system did during a time in which nothing failed.
type Calm struct {
	System string `json:"system"`
	// Seconds it lasted.
	Seconds float64 `json:"seconds"`
	// Lost counts lost probes of all flows, Outages their runs, LongestMS the longest.
	Sent      int     `json:"sent"`
	Unsent    int     `json:"unsent"`
	Lost      int     `json:"lost"`
	Outages   int     `json:"outages"`
	LongestMS float64 `json:"longest_ms"`
	Count
}

const (
	// lullSteps is in how many parts a time without a failure is cut, for progress.
	lullSteps = 6
	// factsFor is how long what a system saw may take to be written down.
	factsFor = 3 * time.Second
)

// Lull is a time in which nothing fails, with progress.
func Lull(ctx context.Context, length time.Duration, say func(string, ...any)) error {
	for i := range lullSteps {
		if err := pause(ctx, length/lullSteps); err != nil {
			return err
		}
		say("%s of %s", time.Duration(i+1)*length/lullSteps, length)
	}
	return nil
}

// Watch probes all systems at the same time during something that must harm none of
// them, and counts what they lost and whom they held for dead.
func Watch(ctx context.Context, all []System, p Probes, during func(context.Context) error) ([]Calm, error) {
	before := make([]Count, len(all))
	for i, s := range all {
		var err error
		if before[i], err = s.Count(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name(), err)
		}
	}
	probers := make([]*probe.Prober, len(all))
	seen := make([]probe.Result, len(all))
	var failed error
	for i, s := range all {
		if probers[i], failed = start(ctx, s.Place(), p); failed != nil {
			break
		}
	}
	began := time.Now()
	if failed == nil {
		failed = during(ctx)
	}
	length := time.Since(began)
	for i, pr := range probers {
		if pr != nil {
			seen[i] = pr.Stop()
		}
	}
	if failed = errors.Join(failed, pause(ctx, factsFor)); failed != nil {
		return nil, failed
	}
	var out []Calm
	for i, s := range all {
		after, err := s.Count(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name(), err)
		}
		c := Calm{System: s.Name(), Seconds: length.Seconds(), Count: after.since(before[i])}
		c.fill(seen[i])
		out = append(out, c)
	}
	return out, nil
}

func (c *Calm) fill(seen probe.Result) {
	for _, s := range seen.Streams {
		m := chaos.Measure(s.Samples)
		c.Sent, c.Unsent, c.Lost, c.Outages = c.Sent+m.Sent, c.Unsent+m.Unsent, c.Lost+m.Lost, c.Outages+m.Outages
		c.LongestMS = max(c.LongestMS, chaos.Ms(m.Longest.Length()))
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
