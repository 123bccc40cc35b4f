package quorum

import "fmt"

// step is one thing that happens.
type step struct {
	what string // if the variant says
	w    world
}

// steps lists everything that can happen next. A broken promise is an error.
func (v variant) steps(w world) (out []step, err error) {
	x := w
	x.link = !x.link
	out = append(make([]step, 0, 20), v.step(x, "the link is %s", upDown[x.link]))
	for i := range names {
		out = append(out, v.outside(w, i)...)
		done, err := v.store(&w, i)
		if err != nil {
			return nil, err
		}
		out = append(out, done...)
		for _, word := range []bool{false, true} {
			// Assumed: an operator who names a node has looked, and saw it down.
			if !w.nodes[i].up || word && (v.witness() || w.nodes[1-i].up || w.nodes[i].do != 0) {
				continue
			}
			x := w
			said, err := v.turn(&x, i, word)
			if err != nil {
				return nil, err
			}
			if x != w {
				out = append(out, v.step(x, "%s %s", names[i], said))
			}
		}
	}
	return out, nil
}

var upDown = map[bool]string{true: "up", false: "down"}

// step puts what happened into words. A node that is heard is noticed at once.
func (v variant) step(w world, format string, args ...any) step {
	if w.hears() {
		for i := range w.nodes {
			w.nodes[i].heard, w.nodes[i].fenced = true, false
		}
	}
	if !v.say {
		return step{w: w}
	}
	return step{fmt.Sprintf(format, args...), w}
}

// outside is what happens to node i.
func (v variant) outside(w world, i int) (out []step) {
	n := &w.nodes[i]
	if v.witness() {
		x := w
		x.reach[i] = !x.reach[i]
		out = append(out, v.step(x, "%s's way to the witness is %s", names[i], upDown[x.reach[i]]))
	}
	if w.shot[i] {
		x := w
		x.shot[i] = false
		x.crash(i)
		out = append(out, v.step(x, "the fence switches %s off", names[i]))
	}
	x := w
	if n.up {
		x.crash(i)
		out = append(out, v.step(x, "%s crashes", names[i]))
		if !n.leaving && n.do == 0 {
			y := w
			y.nodes[i].leaving = true
			out = append(out, v.step(y, "%s is told to stop", names[i]))
		}
		return out
	}
	x.boot(v, i)
	return append(out, v.step(x, "%s boots", names[i]))
}

func (w *world) boot(v variant, i int) {
	n := &w.nodes[i]
	n.up = true
	n.save(v.rules.boot(n.record(), n.members == alone))
	n.store = n.members != absent && n.record().Mode != Stale && n.record().Step != Granted
}

func (w *world) crash(i int) {
	n := &w.nodes[i]
	n.up, n.store, n.proven, n.fenced, n.leaving, n.heard = false, false, false, false, false, false
	n.do, n.sub, n.from, n.to, n.heardEpoch, n.heardMode = 0, 0, mark{}, mark{}, 0, 0
}

// store is what node i's store does by itself: begin a write, copy, commit, learn.
func (v variant) store(w *world, i int) ([]step, error) {
	var out []step
	n, peer := &w.nodes[i], &w.nodes[1-i]
	if n.up && n.record().Writes() && w.writable(i) && w.writes < maxWrites && (prefix(n, peer) || n.members == alone) {
		x := *w
		m := &x.nodes[i]
		epoch, _ := v.applied(m, m.known)
		x.writes++
		if m.add(entry{write: x.writes, basis: epoch}) {
			if m.members == alone {
				m.known = m.n
				if err := x.ack(i); err != nil {
					return nil, err
				}
			}
			out = append(out, v.step(x, "%s writes %d", names[i], x.writes))
		}
	}
	if (w.connected() || w.teaches(i)) && n.log != peer.log && commonLen(n, peer) >= peer.known {
		x := *w
		x.nodes[1-i].log, x.nodes[1-i].n = n.log, n.n
		out = append(out, v.step(x, "%s's log is copied to %s", names[i], names[1-i]))
	}
	if w.teaches(i) && n.members == both && n.log == peer.log {
		x := *w
		x.nodes[1-i].members = both
		out = append(out, v.step(x, "%s learns that it has a vote", names[1-i]))
	}
	if w.connected() && n.log == peer.log && n.known < n.n {
		x := *w
		x.nodes[i].known = n.n
		if err := x.ack(i); err != nil {
			return nil, err
		}
		out = append(out, v.step(x, "%s commits and acknowledges", names[i]))
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
func (w *world) ack(i int) error {
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
	stale := index(modeList, Stale)
	for i := range w.nodes {
		if n := &w.nodes[i]; n.store && n.members == alone && n.mode != stale &&
			(n.n < w.acks || !sameRun(w.acked[:w.acks], n.log[:w.acks])) {
			return fmt.Errorf("%s can write and lacks what was acknowledged", names[i])
		}
	}
	if a.mode == stale && b.mode == stale {
		return fmt.Errorf("each says that the log went on at the other one, and nobody has it")
	}
	return nil
}

// turn is node i's steward: it goes on with a deed, or looks and begins one.
func (v variant) turn(w *world, i int, word bool) (string, error) {
	n := &w.nodes[i]
	if n.do != 0 {
		return v.deed(w, i)
	}
	if n.record().Writes() && w.writable(i) {
		n.proven = true
	}
	s := v.sight(w, i, word)
	m := v.rules.next(n.record(), s)
	if !w.writable(i) && m.Do == Wait && (m.Why == "" || m.Fix == "") {
		return "", fmt.Errorf("%s can't write and does not say why, or what helps: %+v", names[i], m)
	}
	before := n.record()
	if m.Record.Epoch > maxEpoch || m.Record.Next > maxEpoch || m.Epoch > maxEpoch {
		return "stands still: the model ends here", nil
	}
	n.save(m.Record)
	if m.Record.Mode != before.Mode || m.Record.Epoch != before.Epoch {
		n.proven = false
	}
	if m.Record.Step == Granted && before.Step != Granted {
		n.heard = false
	}
	n.do, n.sub, n.from, n.to = index(deedList, m.Do), 0, markOf(m.From), markOf(m.To)
	if !v.say {
		return "", nil
	}
	said := fmt.Sprintf("looks: %s %d, %s", m.Record.Mode, m.Record.Epoch, m.Do)
	if m.Record.Step != "" {
		said = fmt.Sprintf("looks: %s %d %s %d, %s", m.Record.Mode, m.Record.Epoch, m.Record.Step, m.Record.Next, m.Do)
	}
	if word {
		said = fmt.Sprintf("is told that %s is down, and %s", names[1-i], said)
	}
	return said, nil
}
