package torture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dyad/cluster/etcdnode"
)

// Defaults of Options.
const (
	DefaultWriters = 32
	// DefaultLoad is the longest that writers write before something happens.
	DefaultLoad = 250 * time.Millisecond
	// DefaultFresh is after how many rounds a new pair begins, so that neither
	// the log nor the archives grow without end.
	DefaultFresh = 25
)

// Options of Run.
type Options struct {
	// Dir is where the nodes live. It is emptied of a pair that passed.
	Dir string
	// Exe and Args start a store's process; see etcdnode.ChildMain.
	Exe  string
	Args []string
	// Seed chooses what happens in each round. The same seed makes the same
	// choices; the machine's timing is its own.
	Seed   uint64
	Rounds int
	// Writers, Load and Fresh default to the constants above.
	Writers int
	Load    time.Duration
	Fresh   int
	// Heartbeat and Election are raft's timers; default: half the agent's, to
	// play more rounds.
	Heartbeat, Election time.Duration
	// NoKeepTail leaves out what makes a takeover safe. Run must then fail.
	NoKeepTail bool
	// Only, if not empty, is the one kind of round that is played.
	Only string
	// Say is told the progress, Log what the stores say; default: nobody.
	Say func(format string, args ...any)
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Writers == 0 {
		o.Writers = DefaultWriters
	}
	if o.Load == 0 {
		o.Load = DefaultLoad
	}
	if o.Fresh == 0 {
		o.Fresh = DefaultFresh
	}
	if o.Heartbeat == 0 {
		o.Heartbeat, o.Election = etcdnode.DefaultHeartbeat/2, etcdnode.DefaultElection/2
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	return o
}

// Result counts what was done and seen.
type Result struct {
	Rounds, Takeovers, Crashes int
	// Running is how many stores went on alone without a restart.
	Running int
	// Acked events were acknowledged, Conflicts refused. Late ones stood in the
	// log although their first writer got no answer; their writers were told
	// when they asked again.
	Acked, Conflicts, Late int
	// Orphans are events that only a dead node held.
	Orphans int
	// Takeover is from its first step to the first accepted append, Rejoin from
	// putting the old store aside to the pair's first append; in ms, of those
	// that nothing interrupted.
	Takeover, Rejoin []float64
}

func (r Result) String() string {
	return fmt.Sprintf("rounds=%d takeovers=%d running=%d crashes=%d acked=%d conflicts=%d late=%d orphans=%d takeover=%s rejoin=%s",
		r.Rounds, r.Takeovers, r.Running, r.Crashes, r.Acked, r.Conflicts, r.Late, r.Orphans, spread(r.Takeover), spread(r.Rejoin))
}

// spread is the median and the maximum of a row.
func spread(row []float64) string {
	if len(row) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(row))
	return fmt.Sprintf("%.0f/%.0fms", s[len(s)/2], s[len(s)-1])
}

// Failure is a round that failed. Its directory is kept.
type Failure struct {
	Seed  uint64
	Round int
	Plan  string
	Dir   string
	Err   error
}

func (f *Failure) Error() string {
	return fmt.Sprintf("round %d of seed %d (%s) failed: %v\n  its directories are kept in %s", f.Round, f.Seed, f.Plan, f.Err, f.Dir)
}

// Unwrap makes errors.Is see ErrBroken.
func (f *Failure) Unwrap() error { return f.Err }

// Run plays o.Rounds rounds, and ends with the first that fails (*Failure), or
// with ctx.
func Run(ctx context.Context, o Options) (Result, error) {
	o = o.withDefaults()
	var r Result
	for r.Rounds < o.Rounds && ctx.Err() == nil {
		dir := filepath.Join(o.Dir, fmt.Sprintf("pair-%d", r.Rounds))
		if err := runPair(ctx, o, dir, &r); err != nil {
			return r, err
		}
	}
	return r, ctx.Err()
}

// runPair plays up to o.Fresh rounds with one pair.
func runPair(ctx context.Context, o Options, dir string, r *Result) (err error) {
	p := &pair{o: o, ledger: newLedger(), result: r}
	defer func() {
		p.close()
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	if err := p.form(ctx, dir); err != nil {
		return &Failure{o.Seed, r.Rounds + 1, "form", dir, err}
	}
	for i := 0; i < o.Fresh && r.Rounds < o.Rounds && ctx.Err() == nil; i++ {
		n := r.Rounds + 1
		plan := draw(rand.New(rand.NewPCG(o.Seed, uint64(n))), o)
		began, before := time.Now(), *r
		if err := p.round(ctx, n, plan); err != nil {
			if ctx.Err() != nil && !errors.Is(err, ErrBroken) {
				return ctx.Err()
			}
			return &Failure{o.Seed, n, plan.String(), dir, err}
		}
		r.Rounds = n
		o.Say("round=%d seed=%d %s acked=%d late=%d orphans=%d events=%d took=%s", n, o.Seed, plan,
			r.Acked-before.Acked, r.Late-before.Late, r.Orphans-before.Orphans, p.ledger.head.Seq, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// Kinds of rounds.
const (
	// KindLeader kills the leader in the moment in which it acknowledged an
	// append, KindLeaderAny at any moment.
	KindLeader    = "leader"
	KindLeaderAny = "leader-any"
	KindFollower  = "follower"
	// KindBoth kills one and then the other, and either one takes over; in
	// KindBothBack both come back and nobody takes over.
	KindBoth     = "both"
	KindBothBack = "both-back"
	// KindBlip kills one, which comes back before anybody takes over.
	KindBlip = "blip"
	// KindLeave lets one leave as planned.
	KindLeave = "leave"
)

// odds are how many of 16 rounds are of each kind.
var odds = []struct {
	kind string
	n    int
}{{KindLeader, 4}, {KindLeaderAny, 2}, {KindFollower, 3}, {KindBoth, 4}, {KindBothBack, 1}, {KindBlip, 1}, {KindLeave, 1}}

// Where a takeover may be broken off: while the running store goes on alone,
// while it is started anew, once it answers, and once the epoch is in the log.
const (
	atAlone = "alone"
	atStart = "start"
	atReady = "ready"
	atEpoch = "epoch"
)

// plan is what happens in a round. All of it is drawn before it begins.
type plan struct {
	kind string
	// before, sole and after are how long writers write: before the fault, at
	// the survivor alone, and in the new pair.
	before, sole, after time.Duration
	gap                 time.Duration // between two kills
	first               bool          // of two killed, the first one survives
	leader              bool          // it is the leader that leaves or blips
	crashes             []crash       // of the takeover, one after the other
	learnerDies         time.Duration // while it catches up; 0: no
	survivorDies        time.Duration // while the other one catches up; 0: no
}

type crash struct {
	at    string
	after time.Duration // at atStart since the start; at atAlone a share of it
}

func (p plan) String() string {
	s := "kind=" + p.kind
	for _, c := range p.crashes {
		s += " crash=" + c.at
	}
	if p.learnerDies > 0 {
		s += " learner-dies"
	}
	if p.survivorDies > 0 {
		s += " survivor-dies"
	}
	return s
}

// Bounds of what is drawn.
const (
	maxGap      = 40 * time.Millisecond
	maxCrashes  = 3
	maxCrashAge = 120 * time.Millisecond
	aloneShare  = 10 // going on alone takes a fraction of a start
	maxDeathAge = 300 * time.Millisecond
)

func draw(r *rand.Rand, o Options) plan {
	within := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) + 1 }
	p := plan{
		before: o.Load/10 + within(o.Load), sole: within(o.Load), after: within(o.Load / 2),
		gap: within(maxGap), first: r.IntN(2) == 0, leader: r.IntN(2) == 0,
	}
	n := r.IntN(16)
	for _, k := range odds {
		if n -= k.n; n < 0 {
			p.kind = k.kind
			break
		}
	}
	if o.Only != "" {
		p.kind = o.Only
	}
	for r.IntN(3) == 0 && len(p.crashes) < maxCrashes {
		p.crashes = append(p.crashes, crash{[]string{atAlone, atStart, atReady, atEpoch}[r.IntN(4)], within(maxCrashAge)})
	}
	if r.IntN(5) == 0 {
		p.learnerDies = within(maxDeathAge)
	}
	if r.IntN(8) == 0 {
		p.survivorDies = within(maxDeathAge)
	}
	return p
}

// Kinds lists the kinds of rounds.
func Kinds() []string {
	var out []string
	for _, k := range odds {
		out = append(out, k.kind)
	}
	return out
}
