package sim

import (
	"time"

	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
)

// deed begins what the rules want done at node i. A crash breaks it off.
func (w *world) deed(i int, m quorum.Move) {
	n := w.nodes[i]
	n.doing = true
	n.deed++
	id := n.deed
	// then does a step after a while, unless the deed was broken off.
	then := func(wait time.Duration, f func()) {
		w.after(wait+n.slow, func() {
			switch {
			case n.deed != id:
			case !n.agent.responsive():
				n.doing = false
			default:
				f()
			}
		})
	}
	done := func() {
		n.doing = false
		w.holds()
		w.dirty()
	}
	switch m.Do {
	case quorum.AskWitness, quorum.TellWitness:
		w.askWitness(i, m, then, done)
	case quorum.Reform:
		w.reform(i, then, done)
	case quorum.Return:
		w.comeBack(i, then, done)
	case quorum.Pairup:
		w.pairUp(i, m, then, done)
	default:
		w.broken("the rules of the log want %q of %s, which no fault here leads to", m.Do, names[i])
	}
}

type later func(time.Duration, func())

func (w *world) askWitness(i int, m quorum.Move, then later, done func()) {
	n := w.nodes[i]
	if !w.toWitness[i] {
		n.witness = quorum.WitnessSight{}
		then(deedRetry, done)
		return
	}
	then(witnessTrip, func() {
		c := w.claim
		if m.To.Epoch > 0 {
			if stands, err := c.Swap(m.From, m.To); err == nil {
				w.claim, c = stands, stands
				w.say(i, "witness: %s", c)
			}
		}
		then(witnessTrip, func() {
			n.witness = quorum.WitnessSight{Configured: true, Known: true, Claim: c}
			done()
		})
	})
}

func started(epoch eventlog.Epoch, mode quorum.Mode, writers ...string) (eventlog.Draft, error) {
	return eventlog.NewDraft(eventlog.TypeEpochStarted, "epoch",
		eventlog.EpochPayload{Epoch: epoch, Mode: string(mode), Writers: writers, Cluster: cluster}, nil)
}

// reform starts the store of node i anew with itself as the only voter.
func (w *world) reform(i int, then later, done func()) {
	n := w.nodes[i]
	n.store.running = false
	then(w.between(60*time.Millisecond, 300*time.Millisecond), func() {
		if r := n.record; !r.Exclusive() && n.store.members != alone && n.agent.view.Nodes[names[1-i]] == projections.Alive {
			n.record, n.store.running = quorum.Boot(r, false), true
			done()
			return
		}
		n.store.members, n.store.pupil, n.store.running = alone, false, true
		w.holds()
		then(fsyncTime, func() {
			w.serve(i)
			d, err := started(max(n.record.Next, n.agent.state.Head.Epoch+1), quorum.Sole, names[i])
			if err == nil {
				err = w.append(i, d)
			}
			if err != nil {
				w.say(i, "reform: %v", err)
			} else {
				w.serve(i)
				w.say(i, "sole writer from epoch %d", w.head.Epoch)
			}
			done()
		})
	})
}

// comeBack sets the store of node i aside and asks to be admitted.
func (w *world) comeBack(i int, then later, done func()) {
	n, peer := w.nodes[i], w.nodes[1-i]
	n.store = store{}
	then(w.between(50*time.Millisecond, 150*time.Millisecond), func() {
		r := peer.record
		if !w.linked() || !w.writable(1-i) || peer.store.members != alone || !r.Alone() || r.Step != "" {
			then(deedRetry, done)
			return
		}
		peer.store.pupil = true
		n.record = quorum.Record{Mode: quorum.Joining, Epoch: r.Epoch}
		n.store.members, n.store.running = learner, true
		then(w.between(20*time.Millisecond, 60*time.Millisecond), func() {
			if w.teaches(1 - i) {
				n.store.applied = peer.store.applied
			}
			done()
		})
	})
}

// pairUp gives the learner its vote.
func (w *world) pairUp(i int, m quorum.Move, then later, done func()) {
	n, peer := w.nodes[i], w.nodes[1-i]
	if n.store.members == alone {
		if !w.teaches(i) || peer.store.applied != n.store.applied {
			then(lookEvery, done)
			return
		}
		n.store.members, n.store.pupil, peer.store.members = both, false, both
	}
	then(w.between(5*time.Millisecond, 30*time.Millisecond), func() {
		d, err := started(m.Epoch, quorum.Pair, names[0], names[1])
		if err == nil {
			err = w.append(i, d)
		}
		if err != nil {
			w.say(i, "pair: %v", err)
		} else {
			w.say(i, "a pair from epoch %d", w.head.Epoch)
		}
		then(lookEvery, done)
	})
}
