package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Mutant leaves out something that makes a failover safe. The simulation must
// then find a broken promise.
type Mutant string

// The mutants.
const (
	// MutantNoARPProbe never hears a kernel answer.
	MutantNoARPProbe Mutant = "no-arp-probe"
	// MutantNoPauseCheck takes the own pause for the other node's silence.
	MutantNoPauseCheck Mutant = "no-pause-check"
	// MutantNoDamping gives a takeover up as soon after the tenth suspicion as
	// after the first.
	MutantNoDamping Mutant = "no-damping"
	// MutantGracefulRestart has the router keep the routes of closed sessions.
	MutantGracefulRestart Mutant = "graceful-restart"
	// MutantNoSync announces before the log was read.
	MutantNoSync Mutant = "no-sync"
)

// Mutants lists them.
func Mutants() []Mutant {
	return []Mutant{MutantNoARPProbe, MutantNoPauseCheck, MutantNoDamping, MutantGracefulRestart, MutantNoSync}
}

// MutantNames lists them in one line.
func MutantNames() string {
	var out []string
	for _, m := range Mutants() {
		out = append(out, string(m))
	}
	return strings.Join(out, ", ")
}

// Defaults of Options.
const (
	// DefaultLen is how much of a run faults fall into. Each run begins with a new
	// pair and draws its own kinds of faults.
	DefaultLen = 2 * time.Hour
	// rest is what follows: everything must come to rest, also after a flap that
	// is damped for the longest.
	rest = 11 * time.Minute
	// sayEvery is how often the progress is told.
	sayEvery = 5 * time.Second
)

// Options of Run.
type Options struct {
	// Seed chooses everything. Run number k, from 0, has the seed Seed+k, so a run
	// that fails can be played again by itself.
	Seed uint64
	// Time is how much is simulated, and Failovers how many failovers; whichever
	// takes longer. At least one run is played.
	Time      time.Duration
	Failovers int
	// Len is how much of each run faults fall into; default DefaultLen.
	Len time.Duration
	// Only are the kinds of faults to draw from; default all of them.
	Only   []string
	Mutant Mutant
	// PlayAll plays every heartbeat, also those whose effect is known.
	PlayAll bool
	// Timeline, if not nil, gets every line of it.
	Timeline *[]string
	// Clock is the time that the speed is measured with; default: none.
	Clock func() time.Time
	// Say is told the progress; default: nobody.
	Say func(format string, args ...any)
}

// Check tells what is wrong with the options.
func (o Options) Check() error {
	for _, k := range o.Only {
		if !slices.Contains(Faults(), k) {
			return fmt.Errorf("%q is no kind of fault; try: %s", k, strings.Join(Faults(), ", "))
		}
	}
	if o.Mutant != "" && !slices.Contains(Mutants(), o.Mutant) {
		return fmt.Errorf("%q is no mutant; try: %s", o.Mutant, MutantNames())
	}
	return nil
}

// Result counts what was played and seen.
type Result struct {
	Runs                int
	Time, Skipped, Took time.Duration
	Failovers, Stances  int
	Verdicts, Expected  int
	Events, Played      int
	Faults              map[string]int
	Outages             int
	// Swings is the most often that a node gave a takeover up within 10 minutes.
	Swings int
	Worst  map[string]time.Duration // by what went wrong last
	Hash   uint64                   // of the whole timeline
}

func (r *Result) outage(kind string, d time.Duration) {
	r.Outages++
	if kind == "" {
		return // while the pair was starting
	}
	r.Worst[kind] = max(r.Worst[kind], d)
}

// add adds what a run counted.
func (r *Result) add(o Result) {
	r.Runs++
	r.Time += o.Time
	r.Skipped += o.Skipped
	r.Failovers += o.Failovers
	r.Stances += o.Stances
	r.Verdicts += o.Verdicts
	r.Expected += o.Expected
	r.Events += o.Events
	r.Played += o.Played
	r.Outages += o.Outages
	r.Swings = max(r.Swings, o.Swings)
	r.Hash = r.Hash*1099511628211 ^ o.Hash
	for k, n := range o.Faults {
		r.Faults[k] += n
	}
	for k, d := range o.Worst {
		r.Worst[k] = max(r.Worst[k], d)
	}
}

// Speed is simulated time by real time; 0 if that was not measured.
func (r Result) Speed() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Time) / float64(r.Took)
}

// Years is the simulated time in years of a pair.
func (r Result) Years() float64 { return r.Time.Hours() / 24 / 365 }

func (r Result) String() string {
	return fmt.Sprintf("runs=%d failovers=%d simulated=%s years=%.4f speed=%.0fx faults=%d outages=%d verdicts=%d events=%d heartbeats=%d swings=%d",
		r.Runs, r.Failovers, r.Time.Round(time.Second), r.Years(), r.Speed(), r.faults(), r.Outages, r.Verdicts, r.Events, r.Played, r.Swings)
}

func (r Result) faults() (n int) {
	for _, k := range r.Faults {
		n += k
	}
	return n
}

// Table lists the faults by kind, each with how often it struck and the longest
// outage that followed it before the next one.
func (r Result) Table() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(&b, "  %-16s %6d   worst outage %s\n", k, r.Faults[k], r.Worst[k])
	}
	return b.String()
}

// Failure is a promise that was not kept.
type Failure struct {
	Seed     uint64
	At       time.Duration // since the run began
	Why      string
	Timeline []string // what happened last, oldest first
}

func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d, %s after the start: %s", f.Seed, f.At, f.Why)
}

// Run plays one pair after the other, and ends with the first that fails
// (*Failure), or with ctx. Errors: those of [Options.Check].
func Run(ctx context.Context, o Options) (Result, error) {
	if err := o.Check(); err != nil {
		return Result{}, err
	}
	if o.Len <= 0 {
		o.Len = DefaultLen
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Clock == nil {
		o.Clock = func() time.Time { return time.Time{} }
	}
	r := Result{Faults: map[string]int{}, Worst: map[string]time.Duration{}}
	began := o.Clock()
	said := began
	for k := uint64(0); k == 0 || r.Time < o.Time || r.Failovers < o.Failovers; k++ {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		one, err := play(o, o.Seed+k)
		r.add(one)
		r.Took = o.Clock().Sub(began)
		if err != nil {
			return r, err
		}
		if now := o.Clock(); now.Sub(said) >= sayEvery {
			said = now
			o.Say("%s next-seed=%d", r, o.Seed+k+1)
		}
	}
	return r, nil
}

// play plays one run.
func play(o Options, seed uint64) (Result, error) {
	w := newWorld(o, seed)
	w.begin(o.Only, o.Len)
	err := w.run(o.Len + rest)
	if err == nil {
		w.settle()
		err = w.failure
	}
	w.stats.Time, w.stats.Hash = w.now, w.hash
	return w.stats, err
}
