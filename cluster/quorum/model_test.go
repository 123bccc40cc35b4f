package quorum

import (
	"fmt"
	"strings"
	"testing"

	"dyad/eventlog"
)

func eventEpoch(e uint8) eventlog.Epoch { return eventlog.Epoch(e) }

// begin is a pair that is well, at epoch 1.
func begin(v variant) world {
	var w world
	w.link, w.reach = true, [2]bool{true, true}
	if v.witness() {
		w.claim = mark{epoch: 1}
	}
	for i := range w.nodes {
		n := &w.nodes[i]
		n.up, n.store, n.members = true, true, both
		n.save(Record{Mode: Pair, Epoch: 1})
		n.add(entry{epoch: 1})
		n.known = n.n
	}
	w.acked, w.acks = w.nodes[0].log, 1
	return w
}

// survivor is what a takeover leaves: a writes alone at epoch 2, and b lies dead
// as it was at epoch 1.
func survivor(v variant) world {
	w := begin(v)
	w.crash(1)
	a := &w.nodes[0]
	a.members, a.log[a.n] = alone, entry{epoch: 2, holder: 1, basis: 1}
	a.n++
	a.known, w.acked, w.acks = a.n, a.log, a.n
	a.save(Record{Mode: Sole, Epoch: 2})
	if v.witness() {
		w.claim = mark{2, 1}
	}
	return w
}

// joining is the survivor with b back as a learner that has nothing yet.
func joining(v variant) world {
	w := survivor(v)
	a, b := &w.nodes[0], &w.nodes[1]
	a.pupil = true
	b.up, b.store, b.members, b.log, b.n, b.known = true, true, learner, [maxLog]entry{}, 0, 0
	b.save(Record{Mode: Joining, Epoch: 2})
	return w
}

// walk visits every world that can be reached, breadth first, up to limit. It
// returns how many, and the shortest history that breaks a promise.
func walk(v variant, first world, limit int) (int, string) {
	type from struct {
		prev int32
		what string
	}
	seen := map[world]struct{}{first: {}}
	queue, path := []world{first}, []from{{-1, "it begins"}}
	story := func(i int, last string, err error) string {
		lines := []string{fmt.Sprintf("%s\n  broken: %v", last, err)}
		for ; i >= 0; i = int(path[i].prev) {
			lines = append([]string{path[i].what}, lines...)
		}
		return strings.Join(lines, "\n  ")
	}
	for i := 0; i < len(queue) && len(queue) < limit; i++ {
		next, err := v.steps(queue[i])
		if err != nil {
			return len(queue), story(i, "then", err)
		}
		for _, s := range next {
			if _, known := seen[s.w]; known {
				continue
			}
			if err := s.w.holds(); err != nil {
				return len(queue), story(i, s.what, err)
			}
			seen[s.w] = struct{}{}
			queue, path = append(queue, s.w), append(path, from{int32(i), s.what})
		}
	}
	return len(queue), ""
}

var (
	authorities = []Authority{ByWitness, ByOperator, ByFence, ByTor}
	beginnings  = map[string]func(variant) world{"pair": begin, "survivor": survivor, "joining": joining}
)

// TestNeverTwoWritersAndNothingLost walks all histories, as far as the bound
// reaches: with crashes, cut links and stops between any two steps.
func TestNeverTwoWritersAndNothingLost(t *testing.T) {
	limit := 300_000
	if testing.Short() {
		limit = 10_000
	}
	total := 0
	for _, a := range authorities {
		for name, first := range beginnings {
			t.Run(string(a)+"/"+name, func(t *testing.T) {
				v := variant{authority: a}
				n, broken := walk(v, first(v), limit)
				if broken != "" {
					t.Fatalf("after %d worlds:\n  %s", n, broken)
				}
				t.Logf("%d worlds", n)
				total += n
			})
		}
	}
	if !testing.Short() && total < 1_000_000 && !t.Failed() {
		t.Errorf("only %d worlds were visited", total)
	}
}

// TestGuardsAreNeeded takes a guard away: the walk must find the history that
// breaks. The histories that need the other guards are longer than the bound.
func TestGuardsAreNeeded(t *testing.T) {
	if testing.Short() {
		t.Skip("walks millions of worlds")
	}
	for _, m := range []struct {
		g     guard
		a     Authority
		first func(variant) world
	}{
		{guardFresh, ByOperator, begin},
		{guardTail, ByOperator, begin},
		{guardSwap, ByWitness, begin},
		{guardKeepTail, ByWitness, begin},
		{guardSteady, ByTor, survivor},
	} {
		t.Run(string(m.a)+": "+string(m.g), func(t *testing.T) {
			v := variant{authority: m.a, rules: rules{without: m.g}}
			n, broken := walk(v, m.first(v), 300_000)
			if broken == "" {
				t.Fatalf("%d worlds, and nothing broke", n)
			}
			t.Logf("after %d worlds:\n  %s", n, broken)
		})
	}
}
