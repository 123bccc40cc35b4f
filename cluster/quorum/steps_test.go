package quorum

import "fmt"

// step is one thing that happens.
type step struct {
	what string
	w    world
}

// steps lists everything that can happen next. A broken promise is an error.
func (v variant) steps(w world) (out []step, err error) {
	add := func(what string, w world) { out = append(out, step{what, w}) }
	x := w
	x.link = !x.link
	add(fmt.Sprintf("the link is up: %v", x.link), x)
	for i := range names {
		out = append(out, v.outside(w, i)...)
		x := w
		done, err := v.store(&x, i)
		if err != nil {
			return nil, err
		}
		out = append(out, done...)
		if !w.nodes[i].up {
			continue
		}
		x = w
		said, moved, err := v.turn(&x, i)
		if err != nil {
			return nil, err
		}
		if moved {
			add(names[i]+" "+said, x)
		}
	}
	return out, nil
}

// outside is what happens to node i.
func (v variant) outside(w world, i int) (out []step) {
	n := &w.nodes[i]
	if v.witness() {
		x := w
		x.reach[i] = !x.reach[i]
		out = append(out, step{fmt.Sprintf("%s reaches the witness: %v", names[i], x.reach[i]), x})
	}
	if w.shot[i] {
		x := w
		x.shot[i] = false
		x.crash(i)
		out = append(out, step{"the fence switches " + names[i] + " off", x})
	}
	x := w
	if n.up {
		x.crash(i)
		out = append(out, step{names[i] + " crashes", x})
		if !n.leaving && n.do == 0 {
			y := w
			y.nodes[i].leaving = true
			out = append(out, step{names[i] + " is told to stop", y})
		}
	} else {
		m := &x.nodes[i]
		m.up = true
		m.save(v.rules.boot(m.record(), m.members == alone))
		m.store = m.members != absent && m.record().Mode != Stale && m.record().Step != Granted
		out = append(out, step{names[i] + " boots", x})
	}
	return out
}

func (w *world) crash(i int) {
	n := &w.nodes[i]
	n.up, n.store, n.proven, n.fenced, n.leaving = false, false, false, false, false
	n.do, n.sub, n.from, n.to, n.heardEpoch, n.heardMode = 0, 0, mark{}, mark{}, 0, 0
}

// store is what node i's store does by itself: begin a write, copy, commit, learn.
func (v variant) store(w *world, i int) ([]step, error) {
	var out []step
	n, peer := &w.nodes[i], &w.nodes[1-i]
	if w.writable(i) && w.writes < maxWrites && n.up && (prefix(n, peer) || n.members == alone) {
		x := *w
		m := &x.nodes[i]
		epoch, _ := m.applied(m.known, v.rules.without != guardCompare)
		x.writes++
		if m.add(entry{write: x.writes, basis: epoch}) {
			if m.members == alone {
				m.known = m.n
				if err := x.ack(i, v); err != nil {
					return nil, err
				}
			}
			out = append(out, step{fmt.Sprintf("%s writes %d", names[i], x.writes), x})
		}
	}
	if (w.connected() || w.teaches(i)) && n.log != peer.log && commonLen(n, peer) >= peer.known {
		x := *w
		x.nodes[1-i].log, x.nodes[1-i].n = n.log, n.n
		out = append(out, step{fmt.Sprintf("%s's log is copied to the other", names[i]), x})
	}
	if w.teaches(i) && n.members == both && n.log == peer.log {
		x := *w
		x.nodes[1-i].members = both
		out = append(out, step{names[1-i] + " learns that it has a vote", x})
	}
	if w.connected() && n.log == peer.log && n.known < n.n {
		x := *w
		x.nodes[i].known = n.n
		if err := x.ack(i, v); err != nil {
			return nil, err
		}
		out = append(out, step{names[i] + " commits and acknowledges", x})
	}
	return out, nil
}

func commonLen(a, b *node) uint8 {
	var k uint8
	for k < a.n && k < b.n && a.log[k] == b.log[k] {
		k++
	}
	return k
}

// ack acknowledges everything node i has committed.
//
// Invariant: what was acknowledged before is how the log begins.
func (w *world) ack(i int, v variant) error {
	n := &w.nodes[i]
	if n.known < w.acks || !sameRun(w.acked[:w.acks], n.log[:w.acks]) {
		return fmt.Errorf("%s acknowledges with a log that lacks what was acknowledged before", names[i])
	}
	w.acked, w.acks = n.log, n.known
	for k := n.known; k < maxLog; k++ {
		w.acked[k] = entry{}
	}
	return nil
}

// holds checks what must be true in every world.
func (w *world) holds() error {
	a, b := &w.nodes[0], &w.nodes[1]
	if a.store && b.store && a.members == alone && b.members == alone {
		return fmt.Errorf("both nodes write alone")
	}
	for i := range w.nodes {
		if n := &w.nodes[i]; n.store && n.members == alone && n.mode != index(modeList, Stale) &&
			(n.n < w.acks || !sameRun(w.acked[:w.acks], n.log[:w.acks])) {
			return fmt.Errorf("%s can write and lacks what was acknowledged", names[i])
		}
	}
	return nil
}

// turn is node i's steward: it goes on with a deed, or looks and begins one.
func (v variant) turn(w *world, i int) (string, bool, error) {
	n := &w.nodes[i]
	if n.do != 0 {
		return v.deed(w, i)
	}
	if w.connected() && n.mode == index(modeList, Pair) && n.step == 0 {
		n.proven = true
	}
	m := v.rules.next(n.record(), v.sight(w, i))
	if !w.writable(i) && m.Do == Wait && (m.Why == "" || m.Fix == "") {
		return "", false, fmt.Errorf("%s can't write and does not say why, or what helps: %+v", names[i], m)
	}
	before := n.record()
	if m.Record.Epoch > maxEpoch || m.Record.Next > maxEpoch || m.Epoch > maxEpoch {
		return "", false, nil // the model ends here
	}
	n.save(m.Record)
	if m.Record.Mode != before.Mode || m.Record.Epoch != before.Epoch {
		n.proven = false
	}
	n.do, n.sub, n.from, n.to = index(deedList, m.Do), 0, markOf(m.From), markOf(m.To)
	return fmt.Sprintf("looks: %s %d %s → %s", m.Record.Mode, m.Record.Epoch, m.Record.Step, m.Do), n.do != 0 || m.Record != before, nil
}
