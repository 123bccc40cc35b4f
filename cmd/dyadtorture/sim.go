package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"dyad/chaos/sim"
)

// commit is what was built, given by the Makefile.
var commit = "unknown"

// gcPercent lets the small heap of a simulation grow further than usual.
const gcPercent = 400

// processor is the processor time this process has used, all cores together.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 1
	}
	return max(1, time.Duration(u.Utime.Nano()+u.Stime.Nano()))
}

// simulation is what the flags say of the simulation.
type simulation struct {
	failovers      int
	time           time.Duration
	faults, mutant string
	playAll        bool
}

// run plays, and prints what is needed to play a failure again.
func (s simulation) run(ctx context.Context, seed uint64) error {
	o := sim.Options{
		Seed: seed, Time: s.time, Failovers: s.failovers, Mutant: sim.Mutant(s.mutant), PlayAll: s.playAll, Clock: time.Now,
		Say: func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
	}
	if s.faults != "" {
		o.Only = strings.Split(s.faults, ",")
	}
	if err := o.Check(); err != nil {
		return err
	}
	fmt.Printf("torture sim: seed %d, commit %s, at least %s and %d failovers\n", seed, commit, s.time, s.failovers)
	debug.SetGCPercent(gcPercent)
	r, err := sim.Run(ctx, o)
	fmt.Printf("torture sim: %s cpu-speed=%.0fx\n%s", r, float64(r.Time)/float64(processor()), r.Table())
	var f *sim.Failure
	if errors.As(err, &f) {
		fmt.Printf("timeline of seed %d before it failed, in seconds since its start:\n%s\n", f.Seed, strings.Join(f.Timeline, "\n"))
		return fmt.Errorf("%w\n  commit %s; to play it again: make sim SEED=%d TIME=1h", err, commit, f.Seed)
	}
	return err
}
