package quorum

import (
	"fmt"
	"slices"
)

// deed does the next step of the deed that node i is at.
func (v variant) deed(w *world, i int) (said string, err error) {
	n, peer := &w.nodes[i], &w.nodes[1-i]
	do := deedList[n.do]
	if v.say {
		said = fmt.Sprintf("does %s, step %d", do, n.sub+1)
	}
	switch do {
	case Reform:
		return said, v.reform(w, i)
	case AskWitness, TellWitness:
		if w.reach[i] && n.from.epoch > 0 {
			w.swap(n.from, n.to)
		}
		n.do = 0
		if v.say {
			said += fmt.Sprintf("; the witness holds %s", claimOf(w.claim))
		}
	case AskFence:
		if n.sub == 0 {
			w.shot[1-i], n.sub = true, 1
			break
		}
		if !w.nodes[1-i].up { // read back as off
			w.shot[1-i], n.fenced, n.do = false, true, 0
		}
	case Return:
		v.comeBack(w, i)
	case Pairup:
		v.pairup(w, i)
	case Leave:
		return said, v.leave(w, i)
	case Shed:
		if n.members == both && w.connected() && n.log == peer.log {
			n.members, n.known = alone, n.n
			err = w.ack(i)
		}
		n.do = 0
	}
	return said, err
}

// swap is the register's.
func (w *world) swap(from, to mark) bool {
	stands, err := claimOf(w.claim).Swap(claimOf(from), claimOf(to))
	w.claim = markOf(stands)
	return err == nil
}

func (v variant) reform(w *world, i int) error {
	n := &w.nodes[i]
	n.sub++
	switch n.sub {
	case 1:
		n.store = false
	case 2:
		if r := n.record(); !r.Exclusive() && n.members != alone && !v.rules.need(guardHeard, !n.heard) {
			n.do, n.store = 0, true
			n.save(v.rules.boot(r, false))
			return nil
		}
		if v.rules.without == guardKeepTail {
			for k := n.known; k < n.n; k++ {
				n.log[k] = entry{}
			}
			n.n = n.known
		}
		n.known = n.n
	case 3:
		// Whoever finds in its tail that the log was handed to the other node must
		// not go on, unless a witness says that the other one did not.
		if epoch, holder := v.applied(n, n.n); n.by != index(byList, ByWitness) &&
			!v.rules.need(guardTail, epoch <= n.epoch || holder != uint8(2-i)) {
			n.do = 0
			n.save(Record{Mode: Stale, Epoch: eventEpoch(epoch)})
			return nil
		}
		n.members, n.pupil, n.store = alone, false, true
	case 4:
		epoch, _ := v.applied(n, n.n)
		next := max(n.next, epoch+1)
		n.do = 0
		if next > maxEpoch || !n.add(entry{epoch: next, holder: uint8(i + 1), basis: epoch}) {
			return nil
		}
		n.known = n.n
		n.save(Record{Mode: Sole, Epoch: eventEpoch(next)})
		return w.ack(i)
	}
	return nil
}

func (v variant) comeBack(w *world, i int) {
	n, peer := &w.nodes[i], &w.nodes[1-i]
	if n.sub == 0 {
		n.store, n.members, n.pupil, n.log, n.n, n.known = false, absent, false, [maxLog]entry{}, 0, 0
		n.sub = 1
		return
	}
	n.do = 0
	r := peer.record()
	if w.hears() && w.writable(1-i) && peer.members == alone && r.alone() && r.Step == "" {
		peer.pupil = true
		n.save(Record{Mode: Joining, Epoch: r.Epoch})
		n.members, n.store = learner, true
	}
}

func (v variant) pairup(w *world, i int) {
	n, peer := &w.nodes[i], &w.nodes[1-i]
	switch {
	case n.members == alone && n.pupil:
		if !w.teaches(i) || n.log != peer.log {
			n.do = 0
			return
		}
		n.members, n.pupil = both, false
	case n.members == both:
		n.do = 0
		// Through the pair: it stands when both have it.
		if w.connected() && prefix(n, peer) && v.compare(n, n.epoch) && n.next > n.epoch {
			n.add(entry{epoch: n.next, basis: n.epoch})
		}
	default:
		n.do = 0
	}
}

// compare is the append's: the log is at the epoch that the append was decided at.
func (v variant) compare(n *node, basis uint8) bool {
	epoch, _ := v.applied(n, n.n)
	return v.rules.need(guardCompare, epoch == basis)
}

func (v variant) leave(w *world, i int) error {
	n, peer := &w.nodes[i], &w.nodes[1-i]
	n.sub++
	switch n.sub {
	case 1:
		n.to = mark{n.epoch + 1, uint8(2 - i)}
		if n.epoch == maxEpoch || v.witness() && (!w.reach[i] || !w.swap(w.claim, n.to)) {
			w.crash(i) // it stops without
		}
	case 2:
		if !w.connected() || !prefix(n, peer) || !v.compare(n, n.epoch) || !n.add(entry{epoch: n.to.epoch, holder: n.to.holder, basis: n.epoch}) {
			w.crash(i)
		}
	case 3: // when the event is committed here
		if given := (entry{epoch: n.to.epoch, holder: n.to.holder, basis: n.epoch}); slices.Contains(n.log[:n.known], given) {
			n.save(Record{Mode: Stale, Epoch: eventEpoch(n.to.epoch)})
		} else {
			n.sub = 2
		}
	default: // who takes its own vote away does so behind all of its log
		if w.connected() && n.log == peer.log {
			peer.members, peer.known = alone, peer.n
			if err := w.ack(1 - i); err != nil {
				return err
			}
		}
		w.crash(i)
	}
	return nil
}
