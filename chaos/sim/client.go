package sim

import (
	"net/netip"
	"time"

	"dyad/projections"
)

// Budgets of an outage: how long traffic may be away although the other node is
// well. They begin when that node could see what is wrong.
const (
	// budgetSilent is for a machine that falls silent altogether: three missed
	// heartbeats of 5 ms, and the frames on the wire (docs/failover.md).
	budgetSilent = 25 * time.Millisecond
	// budgetPart is for everything else: the router must first leave five
	// questions unanswered, 10 ms apart, and may take its 61 ms to move a route.
	budgetPart = 250 * time.Millisecond
	// budgetRough is while frames get lost by chance: they are repeated every
	// 500 ms.
	budgetRough = 1500 * time.Millisecond
)

// outage is what a client of one address sees.
type outage struct {
	open  bool
	since time.Duration
	due   time.Duration
	// alert: when it began, node i held the other one for alive.
	alert [2]bool
}

// carries: a packet that the router gives to the next hop of node owner reaches
// a node, and the answer gets back.
func (w *world) carries(owner int) bool {
	at := w.router.mac[owner]
	return at != nobody && w.nodes[at].answers() && w.plugged(at)
}

// delivers tells whether every flow to an address is answered.
func (w *world) delivers(p netip.Prefix) bool {
	if !w.router.up {
		return false
	}
	via := w.router.fib[p]
	for _, i := range via {
		if !w.carries(i) {
			return false
		}
	}
	return len(via) > 0
}

// client looks at every address after something has changed.
func (w *world) client() {
	for k, p := range w.prefixes {
		o := &w.clients[k]
		ok := w.delivers(p)
		switch {
		case ok && o.open:
			o.open = false
			w.say(nobody, "%s is back after %s", p.Addr(), w.now-o.since)
			w.stats.outage(w.swarm.last, w.now-o.since)
		case !ok && !o.open:
			*o = outage{open: true, since: w.now, alert: [2]bool{w.trusts(0), w.trusts(1)}}
			w.say(nobody, "%s is away", p.Addr())
		}
		if o.open {
			w.owed(k)
		}
	}
}

// owed sets a deadline for an open outage, if somebody is there to end it.
func (w *world) owed(k int) {
	due, by, why := w.deadline(k)
	if o := &w.clients[k]; by != nobody && due != o.due {
		o.due = due
		w.at(max(due, w.now+1), func() {
			o := &w.clients[k]
			if !o.open {
				return
			}
			if due, by, _ := w.deadline(k); by != nobody && w.now >= due {
				w.broken("%s is away for %s though %s %s", w.prefixes[k].Addr(), w.now-o.since, names[by], why)
			}
		})
	}
}

// deadline is when an address must be back, and who must have done it.
func (w *world) deadline(k int) (due time.Duration, by int, why string) {
	from := max(w.clients[k].since, w.calm.since)
	if w.calm.since < 0 {
		from = max(w.clients[k].since, w.swarm.changed)
	}
	for i := range w.nodes {
		h := w.health[i]
		if h.since < 0 || !w.armed(i) || !w.nodes[i].knew {
			continue
		}
		budget := budgetPart
		if o := w.clients[k]; w.dead(1-i) && o.alert[i] && h.since <= o.since {
			budget = budgetSilent
		}
		if w.rough() || w.calm.since < 0 {
			budget = budgetRough
		}
		return max(from, h.since) + budget, i, "is well"
	}
	return w.refuge(k, from)
}

// refuge: a route of a closed session must not draw traffic away from a good one.
func (w *world) refuge(k int, from time.Duration) (time.Duration, int, string) {
	if w.rough() || !w.router.up {
		return 0, nobody, ""
	}
	via := w.router.fib[w.prefixes[k]]
	for _, i := range via {
		o := w.nodes[1-i]
		_, has := w.router.rib[1-i][w.prefixes[k]]
		if !w.nodes[i].session.there && o.session.there && has && w.carries(1-i) && w.router.mac[1-i] == 1-i {
			return max(from, w.swarm.changed) + budgetPart, 1 - i, "has a session and a route, and the route in use is of a session that is closed"
		}
	}
	return 0, nobody, ""
}

// armed: node i would take over.
func (w *world) armed(i int) bool {
	a := w.nodes[i].agent
	return a != nil && w.plugged(i) && a.view.Stance != projections.StanceStepDown
}

// trusts: node i holds the other one for alive.
func (w *world) trusts(i int) bool {
	a := w.nodes[i].agent
	return a != nil && a.view.Nodes[names[1-i]] == projections.Alive
}

// dead: nothing of a node is heard by anybody.
func (w *world) dead(i int) bool {
	return !w.nodes[i].answers() || !w.plugged(i) && !w.linked()
}
