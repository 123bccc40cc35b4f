package sim

import (
	"slices"
	"time"
)

// swarm chooses what goes wrong, and when.
type swarm struct {
	kinds   []fault
	last    string        // what went wrong last
	changed time.Duration // when something began or ended
	kernel  [2]watched    // answers
	over    time.Duration // nothing begins after it
}

// fault is one kind of what goes wrong. It happens to node i, and ends by itself.
type fault struct {
	name string
	// odds is how many shares of all faults are of this kind.
	odds int
	// from and to bound how long it lasts.
	from, to time.Duration
	do       func(w *world, i int, d time.Duration)
}

const ms = time.Millisecond

// faults lists every kind.
var faults = []fault{
	{"crash", 6, 2 * time.Second, 30 * time.Second, (*world).crash},
	{"crash-late", 2, 2 * time.Second, 20 * time.Second, (*world).crashLate},
	{"second-blow", 1, 2 * time.Second, 20 * time.Second, (*world).secondBlow},
	{"kill-agent", 3, 300 * ms, 3 * time.Second, (*world).killAgent},
	{"kill-pulse", 2, 0, 0, func(w *world, i int, _ time.Duration) { w.nodes[i].killPulse() }},
	{"hang-agent", 2, 50 * ms, 100 * time.Second, (*world).hangAgent},
	{"hang-pulse", 3, 10 * ms, 5 * time.Second, (*world).hangPulse},
	{"hang", 3, 10 * ms, 60 * time.Second, (*world).hang},
	{"pause", 4, 5 * ms, 4 * time.Second, (*world).pauseMachine},
	{"cut-interlink", 2, 20 * ms, 30 * time.Second, (*world).cutInter},
	{"cut-port", 3, 20 * ms, 20 * time.Second, (*world).cutPort},
	{"cut-all", 4, 20 * ms, 20 * time.Second, (*world).cutAll},
	{"one-way", 3, 20 * ms, 20 * time.Second, (*world).oneWay},
	{"loss", 1, 300 * ms, 2 * time.Second, (*world).lose},
	{"delay", 1, 100 * ms, 3 * time.Second, (*world).delay},
	{"reorder", 1, 200 * ms, time.Second, (*world).reorder},
	{"duplicate", 1, 200 * ms, time.Second, (*world).duplicate},
	{"slow-disk", 1, 5 * time.Second, 40 * time.Second, (*world).slowDisk},
	{"clock-jump", 1, 0, 0, (*world).clockJump},
	{"router-restart", 1, time.Second, 10 * time.Second, func(w *world, _ int, d time.Duration) { w.restartRouter(d) }},
	{"flap", 1, 20 * time.Second, 150 * time.Second, (*world).flap},
	{"cut-witness", 1, time.Second, 60 * time.Second, (*world).cutWitness},
}

// Faults lists the names of all kinds of faults.
func Faults() []string {
	var out []string
	for _, f := range faults {
		out = append(out, f.name)
	}
	return out
}

// begin draws the kinds of this run, and lets the first fault come.
func (w *world) begin(only []string, over time.Duration) {
	s := &w.swarm
	s.over = over
	for len(s.kinds) == 0 {
		for _, f := range faults {
			if len(only) > 0 && slices.Contains(only, f.name) || len(only) == 0 && w.rng.IntN(2) == 0 {
				s.kinds = append(s.kinds, f)
			}
		}
	}
	w.after(w.between(20*time.Second, 40*time.Second), w.strike)
}

// Pauses between two faults: most leave time to come to rest, some do not.
const (
	gapMin = 40 * time.Second
	gapMax = 180 * time.Second
)

// strike lets something go wrong, and the next thing later.
func (w *world) strike() {
	s := &w.swarm
	if w.now >= s.over {
		return
	}
	total := 0
	for _, f := range s.kinds {
		total += f.odds
	}
	n := w.rng.IntN(total)
	for _, f := range s.kinds {
		if n -= f.odds; n < 0 {
			i := w.rng.IntN(2)
			d := f.from
			if f.to > f.from { // short ones are as likely as long ones
				d = w.between(f.from, w.between(f.from, f.to)+1)
			}
			w.say(i, "fault %s for %s", f.name, d)
			w.stats.Faults[f.name]++
			s.last, s.changed = f.name, w.now
			f.do(w, i, d)
			break
		}
	}
	next := w.between(gapMin, gapMax)
	if w.rng.IntN(8) == 0 {
		next = w.between(10*ms, 20*time.Second)
	}
	w.after(next, w.strike)
}

// end lets something end after a while.
func (w *world) end(d time.Duration, f func()) {
	w.after(d, func() {
		w.swarm.changed = w.now
		f()
		w.swarm.changed = w.now
		w.changed()
	})
}

func (w *world) crash(i int, d time.Duration) {
	n := w.nodes[i]
	if !n.kernel {
		return
	}
	w.expect(i)
	n.crash()
	w.end(d, n.boot)
}

// crashLate kills the agent, and the machine soon after.
func (w *world) crashLate(i int, d time.Duration) {
	n := w.nodes[i]
	if n.agent == nil {
		return
	}
	n.kill()
	n.recovers = true // nobody starts it again
	w.after(w.between(20*ms, 150*ms), func() {
		n.recovers = false
		w.swarm.changed = w.now
		if n.kernel {
			n.crash()
			w.end(d, n.boot)
		}
	})
}

// secondBlow parts the nodes and kills one agent, which starts again and can't
// read the log; then the other one's dies, with its machine.
func (w *world) secondBlow(i int, d time.Duration) {
	w.cutInter(i, 5*time.Second+d)
	w.nodes[i].kill()
	w.nodes[i].restart(300 * ms)
	w.after(w.between(time.Second, 5*time.Second), func() {
		w.swarm.changed = w.now
		w.crashLate(1-i, d)
	})
}

func (w *world) killAgent(i int, d time.Duration) {
	if n := w.nodes[i]; n.agent != nil {
		w.expect(i)
		n.kill()
		n.restart(d)
	}
}

func (w *world) hangAgent(i int, d time.Duration) {
	a := w.nodes[i].agent
	w.nodes[i].stopAgent(true)
	w.end(d, func() {
		if w.nodes[i].agent == a {
			w.nodes[i].stopAgent(false)
		}
	})
}

func (w *world) hangPulse(i int, d time.Duration) {
	h := w.nodes[i].heart
	w.nodes[i].stopPulse(true)
	w.end(d, func() {
		if w.nodes[i].heart == h {
			w.nodes[i].stopPulse(false)
		}
	})
}

func (w *world) hang(i int, d time.Duration) {
	if d > verdictBound {
		w.expect(i)
	}
	w.hangAgent(i, d)
	w.hangPulse(i, d)
}

func (w *world) pauseMachine(i int, d time.Duration) {
	if d > verdictBound {
		w.expect(i)
	}
	w.nodes[i].pause(true)
	w.end(d, func() { w.nodes[i].pause(false) })
}

func (w *world) sever(d time.Duration, list ...int) {
	w.cut(true, list...)
	w.end(d, func() { w.cut(false, list...) })
}

func (w *world) cutInter(_ int, d time.Duration) { w.sever(d, wireInter, wireInter+1) }
func (w *world) cutPort(i int, d time.Duration)  { w.sever(d, wireOut+i, wireIn+i) }

func (w *world) cutAll(i int, d time.Duration) {
	w.sever(d, wireInter, wireInter+1, wireOut+i, wireIn+i)
}

func (w *world) oneWay(_ int, d time.Duration) { w.sever(d, w.rng.IntN(wires)) }

// cable is both directions of one.
func (w *world) cable(i int) []int {
	if w.rng.IntN(2) == 0 {
		return []int{wireInter, wireInter + 1}
	}
	return []int{wireOut + i, wireIn + i}
}

// spoil changes what a wire does beyond being cut, and puts it right again.
func (w *world) spoil(list []int, d time.Duration, f func(*wire)) {
	for _, x := range list {
		f(&w.wires[x])
	}
	w.changed()
	w.end(d, func() {
		for _, x := range list {
			w.wires[x] = wire{cut: w.wires[x].cut}
		}
	})
}

func (w *world) lose(i int, d time.Duration) {
	list, p := w.cable(i), uint32(50_000+w.rng.IntN(250_000))
	if w.rng.IntN(3) == 0 {
		list = append(w.cable(i), list...) // perhaps both cables
	}
	w.spoil(list, d, func(x *wire) { x.loss = p })
}

func (w *world) delay(i int, d time.Duration) {
	more := w.between(ms, 30*ms)
	w.spoil(w.cable(i)[:1+w.rng.IntN(2)], d, func(x *wire) { x.delay = more })
}

func (w *world) reorder(i int, d time.Duration) {
	more := w.between(ms, 12*ms)
	w.spoil(w.cable(i), d, func(x *wire) { x.jitter = more })
}

func (w *world) duplicate(i int, d time.Duration) {
	p := uint32(50_000 + w.rng.IntN(450_000))
	w.spoil(w.cable(i), d, func(x *wire) { x.double = p })
}

func (w *world) slowDisk(i int, d time.Duration) {
	w.nodes[i].slow = w.between(50*ms, 1500*ms)
	w.end(d, func() { w.nodes[i].slow = 0 })
}

// clockJump sets a node's clock forth or back.
func (w *world) clockJump(i int, _ time.Duration) {
	n := w.nodes[i]
	d := w.between(100*ms, 20*time.Second)
	if w.rng.IntN(2) == 0 {
		d = -d
	}
	n.offset += d
	n.jumped = w.now
}

// flap cuts a node off for a moment, again and again.
func (w *world) flap(i int, d time.Duration) {
	until := w.now + d
	every := w.between(1500*ms, 4*time.Second)
	long := 25 * ms // too short for the kernel to be missed
	if w.rng.IntN(2) == 0 {
		long = 60 * ms
	}
	var again func()
	again = func() {
		if w.now >= until {
			return
		}
		w.swarm.changed = w.now
		w.cutAll(i, w.between(18*ms, long))
		w.after(every, again)
	}
	again()
}

func (w *world) cutWitness(i int, d time.Duration) {
	w.toWitness[i] = false
	w.end(d, func() { w.toWitness[i] = true })
}
