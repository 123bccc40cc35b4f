package sim

import (
	"net/netip"
	"time"

	"dyad/failover"
	"dyad/projections"
	"dyad/speaker"
)

const (
	holdTime    = 90 * time.Second
	keepalive   = 30 * time.Second
	connectMin  = 1400 * time.Millisecond
	connectMax  = 2 * time.Second
	updateDelay = 200 * time.Microsecond
	resetDelay  = 3 * time.Millisecond
	// frrHold is what FRR waits between a change and the kernel's table, birdHold BIRD.
	frrHold  = 61 * time.Millisecond
	birdHold = 400 * time.Microsecond
	// restartTime is how long a router with graceful restart keeps dead routes.
	restartTime = 120 * time.Second
	resolve     = time.Second
	nobody      = -1
)

var routerAddr = netip.MustParseAddr("192.0.2.1")

// session is the BGP session of one node. The two ends may differ: a router does
// not see a silent death before its hold timer.
type session struct {
	here, there bool // Established, as the node and as the router see it
	gen         uint64
	dueAt       bool
	expiry      uint64
	expiring    bool
}

// router is a plain BGP neighbour that was told nothing but its peers.
type router struct {
	w    *world
	up   bool
	hold time.Duration
	rib  [2]map[netip.Prefix]projections.Attributes
	fib  map[netip.Prefix][]int // the nodes it sends an address to
	mac  [2]int                 // which node has the MAC of each next hop; nobody
	due  bool
}

// neighbor moves a next hop in the router's cache.
func (r *router) neighbor(owner, at int) {
	if !r.up || r.mac[owner] == at {
		return
	}
	r.mac[owner] = at
	r.w.say(nobody, "router: the next hop of %s is at %s", names[owner], names[at])
	r.w.client()
}

// connect begins a session of node i if there can be one.
func (w *world) connect(i int) {
	n := w.nodes[i]
	s := &n.session
	if !w.reachable(i) || s.here && s.there || s.dueAt {
		return
	}
	s.dueAt = true
	s.gen++
	gen, a := s.gen, n.agent
	w.after(w.between(connectMin, connectMax), func() {
		if s.gen != gen {
			return
		}
		s.dueAt = false
		if !w.reachable(i) || n.agent != a {
			w.connect(i)
			return
		}
		if s.there { // the old one ends when the kernel is asked about it
			w.dropThere(i)
		}
		s.here, s.there = true, true
		w.say(i, "session established")
		w.learn(i, a.have)
		a.step(failover.Session{Peer: routerAddr, Established: true})
		w.touch()
	})
}

// reachable: the agent of node i and the router could talk.
func (w *world) reachable(i int) bool {
	n := w.nodes[i]
	return n.agent != nil && n.agent.responsive() && n.answers() && w.router.up && w.plugged(i)
}

// sessions looks at both sessions after something has changed: what has become
// unreachable expires, what is reachable again goes on.
func (w *world) sessions() {
	for i := range w.nodes {
		s := &w.nodes[i].session
		switch {
		case w.reachable(i):
			s.expiring = false
			s.expiry++
			if s.here != s.there {
				w.reset(i)
			}
			w.connect(i)
		case (s.here || s.there) && !s.expiring:
			s.expiring = true
			s.expiry++
			gen := s.expiry
			w.after(holdTime-w.between(0, keepalive), func() {
				if s.expiry == gen {
					w.say(i, "hold timer expires")
					w.dropThere(i)
					w.dropHere(i)
				}
			})
		}
	}
}

// reset ends a session at both ends.
func (w *world) reset(i int) {
	w.dropThere(i)
	w.dropHere(i)
}

func (w *world) dropHere(i int) {
	n := w.nodes[i]
	if n.session.here {
		n.session.here = false
		if n.agent != nil {
			n.agent.take(stamped{w.wall(i), w.now, failover.Session{Peer: routerAddr}})
		}
		w.touch()
	}
}

// dropThere ends a session at the router, which forgets its routes.
func (w *world) dropThere(i int) {
	s := &w.nodes[i].session
	if !s.there {
		return
	}
	s.there = false
	w.say(i, "session down at the router")
	r := w.router
	if w.mutant == MutantGracefulRestart {
		gen := s.gen
		w.after(restartTime, func() {
			if s.gen == gen && !s.there {
				clear(r.rib[i])
				r.decide(0)
			}
		})
		return
	}
	clear(r.rib[i])
	r.decide(0)
	w.touch()
}

// update carries what has changed to the router: TCP keeps the order, so what
// arrives is what stands by then.
func (w *world) update(i int) {
	n := w.nodes[i]
	s, a := &n.session, n.agent
	if !s.here || !s.there {
		return // all of it goes with the next session
	}
	gen := s.gen
	var send func()
	send = func() {
		if s.gen != gen || !s.there || n.agent != a {
			return
		}
		if !w.plugged(i) || !n.answers() { // TCP tries again
			w.after(200*time.Millisecond, send)
			return
		}
		w.learn(i, a.have)
	}
	w.after(updateDelay, send)
}

// learn has the router hold exactly these routes of node i.
func (w *world) learn(i int, routes []speaker.Route) {
	clear(w.router.rib[i])
	for _, x := range routes {
		w.router.rib[i][x.Prefix] = x.Attributes
	}
	w.router.decide(w.router.hold)
}

// decide runs the decision process after a while. The first change starts the
// wait, and all that come meanwhile go with it.
func (r *router) decide(wait time.Duration) {
	if wait > 0 && r.due {
		return
	}
	r.due = r.due || wait > 0
	r.w.after(max(wait, birdHold), func() {
		r.due = r.due && wait == 0
		if !r.up {
			return
		}
		for _, p := range r.w.prefixes {
			r.fib[p] = r.best(p)
		}
		r.w.client()
	})
}

// best is the decision of RFC 4271 section 9.1.2.2, as far as the ladder goes;
// what is equal shares the traffic.
func (r *router) best(p netip.Prefix) []int {
	var out []int
	for i := range r.rib {
		at, ok := r.rib[i][p]
		if !ok {
			continue
		}
		if len(out) == 0 {
			out = append(out, i)
			continue
		}
		switch c := compare(at, r.rib[out[0]][p]); {
		case c < 0:
			out = []int{i}
		case c == 0:
			out = append(out, i)
		}
	}
	return out
}

// compare is below 0 if x wins over y at an eBGP router.
func compare(x, y projections.Attributes) int {
	if x.Prepend != y.Prepend {
		return x.Prepend - y.Prepend
	}
	if x.Origin != y.Origin {
		return int(x.Origin) - int(y.Origin)
	}
	return int(x.MED) - int(y.MED)
}

// restart stops the router, and starts it after a while with nothing in mind.
func (w *world) restartRouter(down time.Duration) {
	r := w.router
	if !r.up {
		return
	}
	r.up = false
	w.say(nobody, "router goes down for %s", down)
	for i := range w.nodes {
		w.nodes[i].session.there = false
		clear(r.rib[i])
		r.mac[i] = nobody
		if w.plugged(i) {
			w.after(resetDelay, func() { w.dropHere(i) })
		}
	}
	clear(r.fib)
	w.touch()
	w.after(down, func() {
		r.up = true
		w.say(nobody, "router is up")
		r.resolve()
		w.changed()
	})
}

// resolve asks for next hops that the router does not know.
func (r *router) resolve() {
	if !r.up {
		return
	}
	again := false
	for i := range r.mac {
		if r.mac[i] != nobody {
			continue
		}
		again = true
		for _, who := range [2]int{i, 1 - i} { // a taker's answer comes after the owner's
			n := r.w.nodes[who]
			held := who == i || n.heart != nil && !n.heart.stopped && n.heart.taker.Held(targetHop)
			if n.answers() && r.w.plugged(who) && held {
				r.w.after(kernelDelay+2*segmentDelay+time.Duration(who^i)*time.Microsecond, func() { r.neighbor(i, who) })
			}
		}
	}
	if again {
		r.w.after(resolve, r.resolve)
	}
}
