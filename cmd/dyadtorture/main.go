// Command dyadtorture kills real stores under load, and simulated pairs in virtual
// time, for as long as asked, and ends with the first broken promise. It is a tool
// of the repository, run by "make torture" and "make sim"; it is not installed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"dyad/chaos/sim"
	"dyad/chaos/torture"
	"dyad/cluster/etcdnode"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The stores are processes of this program.
	if len(os.Args) > 1 && os.Args[1] == "store" {
		return etcdnode.ChildMain(ctx, os.Args[2:], os.Stdin)
	}
	only := flag.String("only", ".", "regular expression over the names of tortures: log, sim")
	seed := flag.Uint64("seed", rand.Uint64(), "what chooses the rounds, and the faults; a failure names it")
	var l logTorture
	flag.IntVar(&l.rounds, "rounds", 1000, "log: how many rounds")
	flag.StringVar(&l.kind, "kind", "", "log: play only this kind of round: "+strings.Join(torture.Kinds(), ", "))
	flag.BoolVar(&l.noKeepTail, "no-keep-tail", false, "log: leave out what makes a takeover safe; it must then fail")
	flag.StringVar(&l.dir, "dir", "", "log: where the nodes live; default: a new directory below the temporary one")
	var s simulation
	flag.IntVar(&s.failovers, "failovers", 1_000_000, "sim: at least so many failovers")
	flag.DurationVar(&s.time, "time", pairYears, "sim: at least so much simulated time")
	flag.StringVar(&s.faults, "faults", "", "sim: draw only from these kinds, separated by commas: "+strings.Join(sim.Faults(), ", "))
	flag.StringVar(&s.mutant, "mutant", "", "sim: leave out what makes a failover safe; it must then fail: "+sim.MutantNames())
	flag.BoolVar(&s.playAll, "play-all", false, "sim: play every heartbeat, a hundred times slower, with the same timeline")
	flag.Parse()
	re, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if re.MatchString("log") {
		if err := l.run(ctx, *seed); err != nil {
			return err
		}
	}
	if re.MatchString("sim") {
		return s.run(ctx, *seed)
	}
	return nil
}

// pairYears is 4.5 years of a pair.
const pairYears = 39_420 * time.Hour

// logTorture is what the flags say of the torture of the log.
type logTorture struct {
	rounds     int
	kind, dir  string
	noKeepTail bool
}

func (l logTorture) run(ctx context.Context, seed uint64) (err error) {
	if l.dir == "" {
		if l.dir, err = os.MkdirTemp("", "dyad-torture-"); err != nil {
			return err
		}
	}
	fmt.Printf("torture log: %d rounds, seed %d, in %s\n", l.rounds, seed, l.dir)
	r, err := torture.Run(ctx, torture.Options{
		Dir: l.dir, Seed: seed, Rounds: l.rounds, Only: l.kind, NoKeepTail: l.noKeepTail,
		Say: func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
	})
	fmt.Printf("torture log: %s\n", r)
	if err != nil {
		return err
	}
	// Empty if everything passed.
	if err := os.Remove(l.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
