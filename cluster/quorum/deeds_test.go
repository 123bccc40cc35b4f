package quorum

import "fmt"

// deed does the next step of the deed that node i is at.
func (v variant) deed(w *world, i int) (string, bool, error) {
	n := &w.nodes[i]
	do := deedList[n.do]
	said := fmt.Sprintf("%s, step %d", do, n.sub+1)
	switch do {
	case Reform:
		return said, true, v.reform(w, i)
	case AskWitness, TellWitness:
		if w.reach[i] && n.from.epoch > 0 && w.claim == n.from {
			w.claim = n.to
			said = fmt.Sprintf("swaps the claim to %v", n.to)
		}
		n.do = 0
	case AskFence:
		if n.sub == 0 {
			w.shot[1-i], n.sub = true, 1
			return said, true, nil
		}
		if w.nodes[1-i].up {
			return said, false, nil // not read back as off
		}
		n.fenced, n.do = true, 0
	case Return:
		v.comeBack(w, i)
	case Pairup:
		return said, v.pairup(w, i), nil
	case Leave:
		return said, v.leave(w, i), nil
	case Shed:
		if n.members == both && w.connected() {
			n.members = alone
		}
		n.do = 0
	}
	return said, true, nil
}

func (v variant) reform(w *world, i int) error {
	n := &w.nodes[i]
	n.sub++
	switch n.sub {
	case 1:
		n.store = false
	case 2:
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
		if epoch, holder := n.applied(n.n, v.rules.without != guardCompare); n.by != index(byList, ByWitness) && v.rules.without != guardTail &&
			epoch > n.epoch && holder == uint8(2-i) {
			n.do = 0
			n.save(Record{Mode: Stale, Epoch: eventEpoch(epoch)})
			return nil
		}
		n.members, n.pupil, n.store = alone, false, true
	case 4:
		epoch, _ := n.applied(n.n, v.rules.without != guardCompare)
		next := max(n.next, epoch+1)
		n.do = 0
		if next > maxEpoch || !n.add(entry{epoch: next, holder: uint8(i + 1), basis: epoch}) {
			return nil
		}
		n.known = n.n
		n.save(Record{Mode: Sole, Epoch: eventEpoch(next)})
		return w.ack(i, v)
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
	if w.link && peer.up && w.writable(1-i) && peer.members == alone && r.alone() && r.Step == "" {
		peer.pupil = true
		n.save(Record{Mode: Joining, Epoch: r.Epoch})
		n.members, n.store = learner, true
	}
}

func (v variant) pairup(w *world, i int) bool {
	n, peer := &w.nodes[i], &w.nodes[1-i]
	switch {
	case n.members == alone && n.pupil:
		if !w.teaches(i) || v.rules.without != guardPromotion && n.log != peer.log {
			n.do = 0
			return true
		}
		n.members, n.pupil = both, false
	case n.members == both:
		n.do = 0
		// Through the pair: it stands when both have it.
		epoch, _ := n.applied(n.n, v.rules.without != guardCompare)
		if w.connected() && prefix(n, peer) && epoch == n.epoch && n.next > epoch {
			n.add(entry{epoch: n.next, basis: epoch})
		}
	default:
		n.do = 0
	}
	return true
}

func (v variant) leave(w *world, i int) bool {
	n, peer := &w.nodes[i], &w.nodes[1-i]
	epoch, _ := n.applied(n.n, v.rules.without != guardCompare)
	switch n.sub {
	case 0:
		if !w.connected() || !prefix(n, peer) || epoch != n.epoch || n.epoch == maxEpoch || !n.add(entry{epoch: n.epoch + 1, holder: uint8(2 - i), basis: n.epoch}) {
			w.crash(i)
			return true
		}
		n.to = mark{n.epoch + 1, uint8(2 - i)}
		n.sub = 1
	case 1: // until the event is committed here
		at, holder := n.applied(n.known, v.rules.without != guardCompare)
		if at != n.to.epoch || holder != n.to.holder {
			return false
		}
		n.sub = 2
	case 2:
		if v.witness() {
			if !w.reach[i] {
				w.crash(i)
				return true
			}
			if w.claim.epoch < n.to.epoch {
				w.claim = n.to
			}
		}
		n.sub = 3
	case 3:
		n.save(Record{Mode: Stale, Epoch: eventEpoch(n.to.epoch)})
		n.sub = 4
	default:
		if w.connected() {
			peer.members = alone
		}
		w.crash(i)
	}
	return true
}
