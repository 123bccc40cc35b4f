package quorum

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"dyad/eventlog"
)

func eventEpoch(e uint8) eventlog.Epoch { return eventlog.Epoch(e) }

// settleEvery: of so many worlds one is asked whether it would settle.
const settleEvery = 4

// walk visits every world that can be reached from the beginnings, breadth first,
// up to limit. It returns how many different ones, and the shortest history that
// breaks a promise, one line a step.
func walk(t *testing.T, v variant, from []string, limit int) (int, string) {
	t.Helper()
	seen, told := map[world]struct{}{}, map[int][]string{}
	var queue []world
	var before []int // which world led here; -1 for a beginning
	for _, name := range from {
		first, lines, err := v.play(beginnings[name])
		if err != nil {
			t.Fatalf("%v, after\n  %s", err, strings.Join(lines, "\n  "))
		}
		if _, known := seen[first]; !known {
			seen[first], told[len(queue)] = struct{}{}, lines
			queue, before = append(queue, first), append(before, -1)
		}
	}
	story := func(i int, last world, broken error) string {
		worlds := []world{last}
		for ; before[i] >= 0; i = before[i] {
			worlds = append(worlds, queue[i])
		}
		slices.Reverse(worlds)
		return strings.Join(append(append(told[i], v.words(queue[i], worlds)...), "broken: "+broken.Error()), "\n  ")
	}
	for i := 0; i < len(queue) && len(queue) < limit; i++ {
		if v.settling && i%settleEvery == 0 {
			if err := v.settles(queue[i]); err != nil {
				return len(queue), story(i, world{}, err)
			}
		}
		next, err := v.steps(queue[i])
		if err != nil {
			return len(queue), story(i, world{}, err)
		}
		for _, s := range next {
			if _, known := seen[s.w]; known {
				continue
			}
			if err := s.w.holds(); err != nil {
				return len(queue), story(i, s.w, err)
			}
			seen[s.w] = struct{}{}
			queue, before = append(queue, s.w), append(before, i)
		}
	}
	return len(queue), ""
}

// words tells how w becomes each of the worlds in turn.
func (v variant) words(w world, worlds []world) (lines []string) {
	v.say = true
	for _, x := range worlds {
		next, _ := v.steps(w)
		for _, s := range next {
			if s.w == x {
				lines = append(lines, s.what)
				break
			}
		}
		w = x
	}
	return lines
}

var authorities = []Authority{ByWitness, ByOperator, ByFence, ByTor}

// TestNeverTwoWritersAndNothingLost walks all histories, as far as the bound
// reaches: with crashes, cut links and stops between any two steps.
func TestNeverTwoWritersAndNothingLost(t *testing.T) {
	limit := 300_000 // for each authority
	if testing.Short() {
		limit = 60_000
	}
	var total atomic.Int64
	t.Run("walk", func(t *testing.T) {
		for _, a := range authorities {
			t.Run(string(a), func(t *testing.T) {
				t.Parallel()
				n, broken := walk(t, variant{authority: a, settling: true}, slices.Sorted(maps.Keys(beginnings)), limit)
				if broken != "" {
					t.Fatalf("after %d worlds:\n  %s", n, broken)
				}
				total.Add(int64(n))
			})
		}
	})
	t.Logf("%d worlds", total.Load())
	if !testing.Short() && total.Load() < 1_000_000 && !t.Failed() {
		t.Errorf("only %d worlds were visited", total.Load())
	}
}

// mutants lists, for each guard, where it is missed.
var mutants = []struct {
	g         guard
	a         Authority
	beginning string
	settles   bool // the promise that breaks is that the two become a pair again
}{
	{guardKeepTail, ByWitness, "written", false},
	{guardSwap, ByWitness, "pair", false},
	{guardFresh, ByOperator, "granted", false},
	{guardHeard, ByOperator, "granted", false},
	{guardTail, ByOperator, "handed over", false},
	{guardProven, ByOperator, "survivor", false},
	{guardProven, ByFence, "survivor", false},
	{guardProven, ByTor, "survivor", false},
	{guardSteady, ByTor, "pair", false},
	{guardFenced, ByFence, "pair", false},
	{guardPairing, ByOperator, "pair again", false},
	{guardCompare, ByOperator, "leaving", false},
	{guardHigher, ByOperator, "survivor", true},
	{guardYields, ByOperator, "handed over", true},
	{guardChosen, ByWitness, "pair", true},
	{guardChoice, ByWitness, "pair", true},
	{guardRunning, ByWitness, "handed over", true},
}

// TestGuardsAreNeeded takes each guard away: the walk must find the history that
// breaks.
func TestGuardsAreNeeded(t *testing.T) {
	for _, m := range mutants {
		t.Run(string(m.a)+": "+string(m.g), func(t *testing.T) {
			t.Parallel()
			v := variant{authority: m.a, rules: rules{without: m.g}, settling: m.settles}
			n, broken := walk(t, v, []string{m.beginning}, 300_000)
			if broken == "" {
				t.Fatalf("%d worlds, and nothing broke", n)
			}
			t.Logf("after %d worlds:\n  %s", n, broken)
		})
	}
}

// Every guard is proven by a mutant.
func TestEveryGuardHasItsMutant(t *testing.T) {
	src, err := os.ReadFile("rules.go")
	if err != nil {
		t.Fatal(err)
	}
	proven := map[guard]bool{}
	for _, m := range mutants {
		proven[m.g] = true
	}
	guards := regexp.MustCompile(`(?m)^\tguard\w+ +guard = "(.*)"`).FindAllSubmatch(src, -1)
	for _, g := range guards {
		if !proven[guard(g[1])] {
			t.Errorf("no mutant: %s", g[1])
		}
	}
	if len(guards) != len(proven) {
		t.Errorf("%d guards, and %d are proven", len(guards), len(proven))
	}
}
