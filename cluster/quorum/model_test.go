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

// walk visits every world that can be reached, breadth first, up to limit. It
// returns how many, and the shortest history that breaks a promise.
func walk(v variant, limit int) (int, string) {
	type from struct {
		prev int32
		what string
	}
	first := begin(v)
	seen := map[world]struct{}{first: {}}
	queue, path := []world{first}, []from{{-1, "a pair that is well"}}
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

var authorities = []Authority{ByWitness, ByOperator, ByFence, ByTor}

// TestNeverTwoWritersAndNothingLost walks all histories, as far as the bound
// reaches: with crashes, cut links and stops between any two steps.
func TestNeverTwoWritersAndNothingLost(t *testing.T) {
	limit := 400_000
	if testing.Short() {
		limit = 30_000
	}
	total := 0
	for _, a := range authorities {
		t.Run(string(a), func(t *testing.T) {
			n, broken := walk(variant{authority: a}, limit)
			if broken != "" {
				t.Fatalf("after %d worlds:\n  %s", n, broken)
			}
			t.Logf("%d worlds", n)
			total += n
		})
	}
	if !testing.Short() && total < 1_000_000 && !t.Failed() {
		t.Errorf("only %d worlds were visited", total)
	}
}

// TestEveryGuardIsNeeded takes each guard away: the walk must find the history
// that breaks. A guard that nothing needs is none.
func TestEveryGuardIsNeeded(t *testing.T) {
	for g, a := range map[guard]Authority{
		guardTail: ByOperator, guardClaim: ByWitness, guardSwap: ByWitness, guardSteady: ByFence,
		guardPairing: ByOperator, guardHandover: ByWitness, guardKeepTail: ByWitness, guardPromotion: ByOperator, guardCompare: ByWitness,
		guardVoter: ByOperator, guardHigher: ByOperator,
	} {
		t.Run(string(g), func(t *testing.T) {
			n, broken := walk(variant{authority: a, rules: rules{without: g}}, 3_000_000)
			if broken == "" {
				t.Fatalf("%d worlds, and nothing broke", n)
			}
			t.Logf("after %d worlds:\n  %s", n, broken)
		})
	}
}
