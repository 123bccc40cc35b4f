package quorum

import (
	"fmt"
	"testing"
)

// How a change of the witness goes wrong in a mutant.
const (
	unlocked = "the claim is registered at the epoch of the log"
	hasty    = "the epoch is raised before both nodes know the witness"
)

const changeEpoch = 3

// change is a pair in the middle of a change of its witness: of two registers, the
// old one and the new one, either may be missing.
type change struct {
	claims   [2]Claim // no epoch: there is none, or it was not told yet
	set      bool     // the log names the new one, or none
	raised   bool     // the log has started the next epoch
	kept     [2]int   // what each node has of it: nothing, set, raised
	old, new bool
}

// next lists what can happen: the deeds of dyad/cluster/witness_change.go, and
// each node hearing of what the log holds.
func (c change) next(mutant string) (out []change) {
	told := Claim{Cluster: "c", Epoch: changeEpoch + 1, Mode: Pair}
	if mutant == unlocked {
		told.Epoch = changeEpoch
	}
	at := 0 // where the change is announced first
	if c.new {
		at = 1
	}
	switch ready := c.claims[at].Same(told); {
	case !ready:
		n := c
		n.claims[at] = told
		out = append(out, n)
	case !c.set:
		n := c
		n.set, n.raised = true, !c.new
		out = append(out, n)
	case !c.raised && (c.kept[0] > 0 && c.kept[1] > 0 || mutant == hasty):
		n := c
		n.raised = true
		out = append(out, n)
	}
	for i := range c.kept {
		n := c
		switch {
		case c.raised && c.kept[i] < 2:
			n.kept[i] = 2
			if c.new && c.kept[i] == 0 {
				n.kept[i] = 1
			}
		case c.set && !c.raised && c.kept[i] == 0:
			n.kept[i] = 1
		default:
			continue
		}
		out = append(out, n)
	}
	return out
}

// asks lets node i, which has lost the other one, ask whoever it believes may
// give it the log. An operator looks first whether the other one writes.
func (c *change) asks(i int, otherWrites bool) bool {
	at, configured := 0, c.old
	if c.kept[i] > 0 {
		at, configured = 1, c.new
	}
	r := Record{Mode: Pair, Epoch: changeEpoch}
	if c.kept[i] == 2 {
		r.Epoch++
	}
	s := Sight{Self: names[i], HoldDown: holdDown, Authority: ByOperator, Proven: true, Steady: true}
	s.Log = LogSight{Epoch: r.Epoch, Mode: Pair, Self: true, Others: true, Refusing: holdDown, Shared: true}
	s.Peer = PeerSight{Name: names[1-i], Silent: holdDown, Epoch: r.Epoch, Mode: Pair}
	if !configured && !otherWrites {
		s.Word = Word{Peer: names[1-i]}
	}
	for range 4 {
		s.Witness = WitnessSight{Configured: configured, Known: configured && c.claims[at].Epoch > 0, Claim: c.claims[at]}
		m := Next(r, s)
		if m.Record.Step == Granted {
			return true
		}
		if m.Do != AskWitness {
			return false
		}
		if c.claims[at].Epoch > 0 {
			c.claims[at], _ = c.claims[at].Swap(m.From, m.To)
		}
	}
	return false
}

// TestAWitnessChangesWithoutAFork cuts the link at every moment of a change, and
// lets both nodes ask, in either order.
func TestAWitnessChangesWithoutAFork(t *testing.T) {
	for name, old := range map[string][2]bool{"added": {false, true}, "replaced": {true, true}, "removed": {true, false}} {
		for _, mutant := range []string{"", unlocked, hasty} {
			if mutant == hasty && name == "removed" {
				continue // there is no such step
			}
			t.Run(name+" "+mutant, func(t *testing.T) {
				first := change{old: old[0], new: old[1]}
				if first.old {
					first.claims[0] = Claim{Cluster: "c", Epoch: changeEpoch, Mode: Pair}
				}
				worlds, broken, granted := walkChange(first, mutant)
				if (broken != "") != (mutant != "") {
					t.Errorf("after %d worlds: %s", worlds, broken)
				}
				if granted == 0 {
					t.Error("nobody was ever given the log")
				}
				t.Logf("%d worlds, %d grants; %s", worlds, granted, broken)
			})
		}
	}
}

func walkChange(first change, mutant string) (worlds int, broken string, granted int) {
	seen := map[change]bool{first: true}
	queue := []change{first}
	for len(queue) > 0 {
		c := queue[0]
		queue = queue[1:]
		worlds++
		for i := range names {
			w := c
			one := w.asks(i, false)
			two := w.asks(1-i, one)
			if one && two {
				return worlds, fmt.Sprintf("%s, then %s: %+v", names[i], names[1-i], c), granted + 2
			}
			if one || two {
				granted++
			}
		}
		for _, n := range c.next(mutant) {
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return worlds, "", granted
}
