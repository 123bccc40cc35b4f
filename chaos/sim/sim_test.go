package sim

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// How much the tests play.
const (
	failovers      = 10_000
	shortFailovers = 1_000
	// mutantTime bounds how long a mutant may live, in simulated time.
	mutantTime = 100 * time.Hour
)

// show prints the end of a failure's timeline.
func show(t *testing.T, err error) {
	t.Helper()
	var f *Failure
	if errors.As(err, &f) {
		const tail = 80
		t.Fatalf("%v\n%s", err, strings.Join(f.Timeline[max(0, len(f.Timeline)-tail):], "\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever goes wrong, nobody is accused without a cause, traffic is back within
// its budget, and the log tells what happened. Half of it is played on each of two
// cores.
func TestSwarm(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	n := failovers / 2
	if testing.Short() {
		n = shortFailovers / 2
	}
	seed := uint64(time.Now().UnixNano()) >> 10
	t.Run("both", func(t *testing.T) {
		for half := range uint64(2) {
			t.Run(fmt.Sprint(half), func(t *testing.T) {
				t.Parallel()
				r, err := Run(t.Context(), Options{Seed: seed + half<<20, Failovers: n, Clock: time.Now})
				t.Logf("%s\n%s", r, r.Table())
				show(t, err)
				if r.Failovers < n || r.Expected < n/20 || len(r.Faults) != len(Faults()) && !testing.Short() {
					t.Errorf("%s: the faults did not bite; %d deaths were looked for in the logs", r, r.Expected)
				}
			})
		}
	})
}

// One seed is one timeline, line by line, and passing over heartbeats whose effect
// is known changes nothing in it.
func TestSameSeedSameTimeline(t *testing.T) {
	seeds := uint64(2)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		var lines [3][]string
		var results [3]Result
		for k := range lines {
			r, err := Run(t.Context(), Options{Seed: seed, Len: 8 * time.Minute, PlayAll: k == 2, Timeline: &lines[k]})
			show(t, err)
			results[k] = r
		}
		for k := 1; k < len(lines); k++ {
			if at := differ(lines[0], lines[k]); at >= 0 || results[0].Hash != results[k].Hash {
				t.Fatalf("seed %d: timelines 0 and %d part at line %d:\n%s\n%s", seed, k, at, from(lines[0], at), from(lines[k], at))
			}
		}
		if len(lines[0]) < 50 || results[0].Skipped < results[0].Time/2 || results[2].Skipped > 0 {
			t.Errorf("seed %d: %d lines, %s of %s skipped", seed, len(lines[0]), results[0].Skipped, results[0].Time)
		}
	}
}

// differ is the first line in which two timelines differ; -1 if none.
func differ(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

func from(lines []string, at int) string {
	return strings.Join(lines[max(0, at-3):min(len(lines), at+2)], "\n")
}

func TestOtherSeedsOtherTimelines(t *testing.T) {
	var hashes []uint64
	for seed := range uint64(5) {
		r, err := Run(t.Context(), Options{Seed: seed, Len: time.Minute})
		show(t, err)
		if slices.Contains(hashes, r.Hash) {
			t.Errorf("seed %d plays what another one played", seed)
		}
		hashes = append(hashes, r.Hash)
	}
}

// Without each of the things that make a failover safe the same simulation finds
// a broken promise. Where a fault is rare it is the only kind, so that it comes soon.
func TestMutantsAreFound(t *testing.T) {
	for _, c := range []struct {
		mutant Mutant
		only   []string
		why    string
	}{
		{MutantNoARPProbe, nil, "its kernel answers"},
		{MutantNoPauseCheck, []string{"pause"}, "nothing was wrong with it"},
		{MutantNoDamping, []string{"flap"}, "has given its takeover up"},
		{MutantGracefulRestart, []string{"second-blow"}, "the route in use is of a session that is closed"},
		{MutantNoSync, nil, "is not in sync"},
	} {
		t.Run(string(c.mutant), func(t *testing.T) {
			for _, seed := range []uint64{1, 2, 3} {
				o := Options{Seed: seed, Time: mutantTime, Only: c.only, Mutant: c.mutant}
				r, err := Run(t.Context(), o)
				var f *Failure
				if !errors.As(err, &f) || !strings.Contains(f.Why, c.why) {
					t.Fatalf("seed %d: %s with the mutant: %v", seed, r.Time, err)
				}
				o.Mutant, o.Time, o.Len, o.Seed = "", 0, f.At, f.Seed
				_, err = Run(t.Context(), o)
				show(t, err) // it was the mutant
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Only: []string{"rain"}}, {Mutant: "x"}} {
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "try:") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
