package pulse

import "time"

// Carrier tells whether the interface of a path has carrier. Until told otherwise
// it has. A path without is down at once, and is heard again like any other.
//
// Invariant: what happens to our own cable says nothing of the other node. A
// silence is its own only where our end could have heard it.
func (d *Detector) Carrier(now time.Duration, pathID int, has bool) {
	p := &d.paths[pathID]
	if p.dark == !has {
		return // also if it is heard nevertheless
	}
	p.dark = !has
	if p.dark && p.up {
		p.up = false
		d.emit(Event{Kind: PathDown, Path: pathID, Silence: now - p.heardAt})
	}
}

// Reach tells whether an interface towards a router has carrier. Until told
// otherwise one has.
func (d *Detector) Reach(reach bool) { d.cutOff = !reach }

// heardOut tells whether a path of which our end is well has fallen silent, and
// not so long before the last heartbeat on any path that the other node was well
// without it.
func (d *Detector) heardOut() bool {
	for i := range d.cfg.Paths {
		if p := &d.paths[i]; p.fell && !p.dark && d.heardAt-p.heardAt < d.pace().Silence() {
			return true
		}
	}
	return false
}

// over: no path is up. It tells whether that is a reason to judge now. Where all
// that happened is that our own cables came out, and a router can be reached, it
// may be the other node at the far end of them; it gets the time of any silence.
func (d *Detector) over(now time.Duration) bool {
	return d.cutOff || d.heardOut() || now-d.heardAt >= d.pace().Silence()
}

// severedNow tells whether the silence is our own: nothing was heard out, and no
// router is reached either.
func (d *Detector) severedNow() bool { return d.cutOff && !d.heardOut() }

// fall: no path hears the other node any more.
func (d *Detector) fall(now time.Duration) {
	e := Event{Kind: Suspected, Silence: now - d.heardAt, Word: d.word, Boot: d.boot}
	d.state = suspected
	for i := range d.cfg.Paths {
		if d.paths[i].refused {
			d.state, e.Kind, e.Path = down, ProcessDown, i
		}
	}
	switch {
	case d.state == suspected && d.severedNow():
		d.state, e.Kind = severed, Severed
	case d.state == suspected:
		d.counts.Suspicions++
	}
	d.emit(e)
}

// Dark tells whether our own interface towards target i has lost carrier. Then
// nobody there can be asked: that says nothing of the other node, and of a router
// that it does not answer us.
func (t *Taker) Dark(now time.Duration, i int, dark bool) {
	x := &t.targets[i]
	if x.dark == dark {
		return
	}
	x.dark, x.answered = dark, false
	x.asked, x.unanswered, x.nextAsk = 0, 0, now
	t.step(now)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
