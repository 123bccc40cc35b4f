package quorum

import (
	"fmt"
	"slices"
	"strings"
)

// begin is a pair that is well, at epoch 1.
func begin(v variant) world {
	var w world
	w.link, w.reach = true, [2]bool{true, true}
	if v.witness() {
		w.claim = mark{epoch: 1}
	}
	for i := range w.nodes {
		n := &w.nodes[i]
		n.up, n.store, n.members, n.proven = true, true, both, true
		n.save(Record{Mode: Pair, Epoch: 1})
		n.add(entry{epoch: 1})
		n.known = n.n
	}
	w.acked, w.acks = w.nodes[0].log, 1
	return w
}

// beginnings are histories that lead from a pair that is well to where it becomes
// dangerous. The walk goes on from there. A line is how a step begins that can
// happen then, or "NODE acts until MODE EPOCH".
var beginnings = map[string]string{
	"pair":        "",
	"granted":     granted,
	"survivor":    survived,
	"learner":     survived + returned,
	"voter":       survived + returned + voted,
	"pair again":  survived + returned + voted + paired,
	"written":     written,
	"leaving":     leaving,
	"handed over": leaving + "a crashes",
}

const (
	granted = `b crashes
		a acts until PAIR 1 granted
		`
	survived = `b crashes
		a acts until SOLE 2
		`
	returned = `b boots
		b acts until JOINING 2
		`
	voted = `a's log is copied to b
		a looks: SOLE 2 pairing 3, pair
		a does pair, step 1
		`
	paired = `b learns
		a does pair
		a's log is copied to b
		b commits
		b acts until PAIR 3
		`
	written = `a writes 1
		a's log is copied to b
		a commits
		`
	leaving = `a is told to stop
		a looks: PAIR 1, leave
		a does leave, step 1
		a does leave, step 2
		a's log is copied to b
		`
)

// play goes from a pair that is well through a beginning. It returns where that
// leads, and the history line by line.
func (v variant) play(beginning string) (world, []string, error) {
	v.say = true
	w, lines := begin(v), []string{"it begins with a pair that is well"}
	for line := range strings.Lines(beginning) {
		line = strings.TrimSpace(line)
		who, until, acts := strings.Cut(line, " acts until ")
		for line != "" {
			if acts {
				if r := w.nodes[index(names[:], who)].record(); strings.TrimSpace(fmt.Sprintf("%s %d %s", r.Mode, r.Epoch, r.Step)) == until {
					break
				}
			}
			next, err := v.steps(w)
			if err != nil {
				return w, lines, err
			}
			k := slices.IndexFunc(next, func(s step) bool {
				return !acts && strings.HasPrefix(s.what, line) ||
					acts && (strings.HasPrefix(s.what, who+" looks") || strings.HasPrefix(s.what, who+" does") || strings.HasPrefix(s.what, who+" is told that"))
			})
			if k < 0 {
				return w, lines, fmt.Errorf("%q can't happen", line)
			}
			w, lines = next[k].w, append(lines, next[k].what)
			if !acts {
				break
			}
		}
	}
	return w, lines, nil
}
