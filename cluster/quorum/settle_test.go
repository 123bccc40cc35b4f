package quorum

import "fmt"

// settles heals the world (both nodes up, all ways open, nobody stops or is shot)
// and lets it go on by itself.
//
// Invariant: then the two become a pair again, without an operator.
func (v variant) settles(w world) error {
	w.link, w.reach, w.shot = true, [2]bool{true, true}, [2]bool{}
	for i := range w.nodes {
		if w.nodes[i].leaving {
			w.crash(i)
		}
		if !w.nodes[i].up {
			w.boot(v, i)
		}
		if w.nodes[i].do == index(deedList, AskFence) {
			w.nodes[i].do = 0 // it takes too long, and is given up
		}
	}
	w = v.step(w, "all is well again").w
	const enough = 40 // rounds; a return takes half as many
	for range enough {
		before := w
		for i := range w.nodes {
			if _, err := v.turn(&w, i, false); err != nil {
				return err
			}
			w = v.step(w, "").w
		}
		if v.follow(&w); w == before {
			break
		}
	}
	a, b := &w.nodes[0], &w.nodes[1]
	short := max(a.epoch, b.epoch, a.next, b.next, w.claim.epoch) >= maxEpoch-1 || max(a.n, b.n) >= maxLog-1
	if pair := a.record(); w.connected() && pair.Mode == Pair && pair.Step == "" && b.record() == pair || short {
		return nil // or the model is too small to tell
	}
	return fmt.Errorf("all is well again, and the two are no pair: a is %v, b is %v, the witness holds %s", a.record(), b.record(), claimOf(w.claim))
}

// follow lets the stores copy, learn and commit. The longer log leads.
func (v variant) follow(w *world) {
	lead := 0
	if w.nodes[1].n > w.nodes[0].n || w.nodes[1].members != learner && w.nodes[0].members == learner {
		lead = 1
	}
	for _, i := range []int{lead, 1 - lead} {
		n, peer := &w.nodes[i], &w.nodes[1-i]
		if (w.connected() || w.teaches(i)) && i == lead {
			peer.log, peer.n = n.log, n.n
		}
		if w.teaches(i) && n.members == both && n.log == peer.log {
			peer.members = both
		}
		if w.connected() && n.log == peer.log {
			n.known = n.n
		}
	}
}
