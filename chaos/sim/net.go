package sim

import (
	"time"

	"dyad/failover/pulse"
)

// The network: a cable between the nodes, and a switch with the router on it. A
// wire is one direction of a cable.
const (
	wireInter = iota // +i: from node i to the other one
	_
	wireOut // +i: from node i to the switch
	_
	wireIn // +i: from the switch to node i
	_
	wires
)

// Travel times without trouble.
const (
	interDelay   = 80 * time.Microsecond
	segmentDelay = 60 * time.Microsecond // each side of the switch
	kernelDelay  = 30 * time.Microsecond // to answer a question
)

// wire is the state of one direction of a cable.
type wire struct {
	cut    bool
	loss   uint32        // of a million
	delay  time.Duration // more than usual
	jitter time.Duration // up to so much more; it reorders
	double uint32        // of a million come twice
}

func (x wire) clean() bool { return x == wire{} }

// rough: what passes is a matter of luck, so no stretch of it may be skipped.
func (x wire) rough() bool { return !x.cut && (x.loss > 0 || x.jitter > 0 || x.double > 0) }

// datagram is a heartbeat on its way.
type datagram struct {
	b [pulse.Size]byte
	n int
}

func (w *world) datagram() *datagram {
	if n := len(w.spare); n > 0 {
		d := w.spare[n-1]
		w.spare = w.spare[:n-1]
		return d
	}
	return &datagram{}
}

// route lists the wires from node i to the other one on a path.
func route(i, path int) (first, second int) {
	if path == 0 {
		return wireInter + i, -1
	}
	return wireOut + i, wireIn + 1 - i
}

// luck is a number below a million that depends on what passes where and when,
// and on nothing else: heartbeats that are not played draw none.
func (w *world) luck(wire int, salt uint64) uint32 {
	x := w.seed ^ uint64(w.now)*0x9e3779b97f4a7c15 ^ uint64(wire)<<56 ^ salt<<48
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return uint32(x % 1_000_000)
}

// pass tells whether something passes a wire now, and how long it takes.
func (w *world) pass(wire int, salt uint64) (time.Duration, bool) {
	x := &w.wires[wire]
	if x.cut || x.loss > 0 && w.luck(wire, salt) < x.loss {
		return 0, false
	}
	d := segmentDelay
	if wire < wireOut {
		d = interDelay
	}
	d += x.delay
	if x.jitter > 0 {
		d += x.jitter * time.Duration(w.luck(wire, salt+7)) / 1_000_000
	}
	return d, true
}

// along is pass over one wire or two.
func (w *world) along(first, second int, salt uint64) (time.Duration, bool) {
	d, ok := w.pass(first, salt)
	if !ok || second < 0 {
		return d, ok
	}
	more, ok := w.pass(second, salt+1)
	return d + more, ok
}

// open tells whether a way has no cut.
func (w *world) open(first, second int) bool {
	return !w.wires[first].cut && (second < 0 || !w.wires[second].cut)
}

// linked: the nodes' own network works both ways; memberlist and the store use it.
func (w *world) linked() bool { return !w.wires[wireInter].cut && !w.wires[wireInter+1].cut }

// plugged: node i's port to the router works both ways.
func (w *world) plugged(i int) bool { return !w.wires[wireOut+i].cut && !w.wires[wireIn+i].cut }

// beat sends a heartbeat of node i.
func (w *world) beat(i, path int, b []byte) {
	first, second := route(i, path)
	d, ok := w.along(first, second, uint64(path))
	if !ok {
		return
	}
	copies := 1
	if p := w.wires[first].double; p > 0 && w.luck(first, 99) < p {
		copies = 2
	}
	for k := range copies {
		g := w.datagram()
		g.n = copy(g.b[:], b)
		w.pushBeat(event{at: w.now + d + time.Duration(k)*50*time.Microsecond, kind: beatArrive, node: 1 - i, path: path, d: g})
	}
}

// arrive is a heartbeat at the kernel of its receiver.
func (w *world) arrive(e event) {
	n := w.nodes[e.node]
	if !n.answers() {
		w.spare = append(w.spare, e.d)
		return
	}
	h := n.heart
	if h == nil { // nobody listens: an ICMP error goes back
		w.spare = append(w.spare, e.d)
		first, second := route(e.node, e.path)
		if d, ok := w.along(first, second, 31); ok {
			w.pushBeat(event{at: w.now + d, kind: beatRefuse, node: 1 - e.node, path: e.path})
		}
		return
	}
	if len(h.inbox[e.path]) >= maxInbox {
		w.spare = append(w.spare, e.d)
		return
	}
	h.inbox[e.path] = append(h.inbox[e.path], e.d)
	if !h.stopped {
		h.wake()
	}
}

// The targets of a pulse, in this order.
const (
	targetKernel  = iota // the other node, on the cable
	targetHop            // the other node, on the switch: the router's next hop
	targetGateway        // the router
	targets
)

var classes = []pulse.Class{pulse.Kernel, pulse.Hop, pulse.Gateway}

// ask sends a question of node i about one of its targets; the answer comes if
// somebody is there.
func (w *world) ask(i, target int) {
	out, second := route(i, 0)
	back, third := route(1-i, 0)
	there := func() bool { return w.nodes[1-i].answers() }
	switch target {
	case targetHop:
		out, second = route(i, 1)
		back, third = route(1-i, 1)
	case targetGateway:
		out, second, back, third = wireOut+i, -1, wireIn+i, -1
		there = func() bool { return w.router.up }
	}
	d, ok := w.along(out, second, 11)
	if !ok {
		return
	}
	h := w.nodes[i].heart
	w.after(d+kernelDelay, func() {
		if !there() {
			return
		}
		if target == targetGateway { // who asks says where it is
			w.router.neighbor(i, i)
		}
		if d, ok := w.along(back, third, 13); ok {
			w.after(d, func() { w.claimed(h, target) })
		}
	})
}

// claimed: an answer reaches the pulse that asked.
func (w *world) claimed(h *heart, target int) {
	n := w.nodes[h.i]
	if n.heart != h || !n.answers() {
		return
	}
	h.claims = append(h.claims, target)
	if !h.stopped {
		h.wake()
	}
}

// announce says on the switch that the next hop of node owner is at node at.
func (w *world) announce(i, owner, at int) {
	if d, ok := w.pass(wireOut+i, 17); ok {
		w.after(d, func() { w.router.neighbor(owner, at) })
	}
	if first, second := route(i, 1); owner != i && at == i {
		if d, ok := w.along(first, second, 19); ok {
			w.after(d, func() { w.nodes[owner].defend() })
		}
	}
}
