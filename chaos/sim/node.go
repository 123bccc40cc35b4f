package sim

import (
	"time"

	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/failover/pulse"
	"dyad/projections"
)

// node is one machine: a kernel, the processes on it, and what is on its disk.
type node struct {
	w *world
	i int

	kernel bool // it runs
	paused bool // the virtual machine stands still
	offset time.Duration
	agent  *agent
	heart  *heart
	member member

	session session
	boots   int // of the agent
	pulses  int // starts of the pulse in this run of the agent
	crashes int // of the kernel
	stops   int // of the virtual machine, under way

	// On disk.
	record     quorum.Record
	store      store
	checkpoint projections.State
	journal    []eventlog.Draft
	slow       time.Duration // more than an fsync usually takes

	deed     uint64 // counts the deeds; one is under way while doing
	doing    bool
	lookDue  bool
	copyDue  bool
	witness  quorum.WitnessSight
	recovers bool          // a start of the agent is due
	knew     bool          // its pulse has heard the other node
	jumped   time.Duration // when its clock was set
}

// answers: its kernel answers the network.
func (n *node) answers() bool { return n.kernel && !n.paused }

// healthy: nothing at all is wrong with it.
func (n *node) healthy() bool {
	a, h := n.agent, n.heart
	return n.answers() && a != nil && !a.stopped && a.synced && h != nil && !h.stopped && !h.hung && n.session.here && n.session.there
}

// crash is the sudden end of the whole machine.
func (n *node) crash() {
	w := n.w
	n.kernel = false
	n.crashes++
	n.endHeart()
	n.endAgent()
	w.say(n.i, "the machine dies")
	w.sessions()
	w.changed()
}

// boot brings the machine back; its agent follows.
func (n *node) boot() {
	if n.kernel {
		return
	}
	n.kernel = true
	n.w.say(n.i, "the machine is back")
	n.w.changed()
	n.restart(n.w.between(300*time.Millisecond, 3*time.Second))
}

// restart starts the agent after a while.
func (n *node) restart(after time.Duration) {
	if n.recovers {
		return
	}
	n.recovers = true
	crashes := n.crashes
	n.w.after(after, func() {
		n.recovers = false
		switch {
		case n.crashes != crashes:
		case n.paused:
			n.restart(100 * time.Millisecond)
		default:
			n.w.startAgent(n.i)
			n.w.changed()
		}
	})
}

// kill ends the agent, as kill -9 does. Its pulse says so and ends.
func (n *node) kill() {
	if n.agent == nil {
		return
	}
	n.w.say(n.i, "the agent is killed")
	if h := n.heart; h != nil && !h.stopped {
		for range 3 {
			h.beatAll(h.now(), pulse.FlagGone)
		}
	}
	n.endHeart()
	n.endAgent()
	w, i := n.w, n.i
	if n.session.there && n.answers() && w.router.up && w.plugged(i) { // its kernel closes the connection
		gen := n.session.gen
		w.after(w.between(resetDelay/6, resetDelay), func() {
			if n.session.gen == gen && n.agent == nil {
				w.dropThere(i)
			}
		})
	}
	w.sessions()
	w.changed()
}

func (n *node) endAgent() {
	n.agent = nil
	n.session.here = false
	n.session.dueAt = false
	n.session.gen++
	n.pulses = 0
	n.store.running = false
	n.doing = false
	n.deed++
	n.w.member(n.i)
}

func (n *node) endHeart() {
	h := n.heart
	if h == nil {
		return
	}
	for p := range h.inbox {
		n.w.spare = append(n.w.spare, h.inbox[p]...)
	}
	n.heart = nil
}

// killPulse ends the pulse without a word; its agent starts it again.
func (n *node) killPulse() {
	h := n.heart
	if h == nil || n.agent == nil {
		return
	}
	n.endHeart()
	n.w.say(n.i, "the pulse is killed")
	n.agent.emit(failover.PulseLost{Why: "signal: killed", Restarts: n.pulses - 1})
	a := n.agent
	var again func()
	again = func() {
		switch {
		case n.agent != a:
		case !a.responsive():
			n.w.after(50*time.Millisecond, again)
		default:
			n.w.startHeart(n.i)
		}
	}
	n.w.after(50*time.Millisecond, again)
	n.w.changed()
}

// stopAgent and stopPulse are SIGSTOP and SIGCONT.
func (n *node) stopAgent(stop bool) {
	a := n.agent
	if a == nil || a.stopped == stop {
		return
	}
	a.stopped = stop
	n.w.say(n.i, "the agent is %s", stopWord[stop])
	if stop {
		n.halt(a)
	} else if !n.paused {
		n.wakeAgent(a)
	}
	n.w.changed()
}

var stopWord = map[bool]string{true: "stopped", false: "continued"}

func (n *node) halt(a *agent) {
	w := n.w
	a.haltAt = w.now
	due := a.haltAt - (a.haltAt-a.born)%feedEvery + time.Second
	w.after(due-w.now+time.Nanosecond, func() { // its pulse notices
		if n.heart != nil && n.agent == a && !a.responsive() {
			n.heart.wake()
		}
	})
}

func (n *node) wakeAgent(a *agent) {
	w := n.w
	w.after(w.between(0, 200*time.Microsecond), func() {
		if n.agent == a && a.responsive() {
			a.resume()
			if n.heart != nil {
				n.heart.wake()
			}
			w.changed()
		}
	})
}

func (n *node) stopPulse(stop bool) {
	h := n.heart
	if h == nil || h.stopped == stop {
		return
	}
	n.w.say(n.i, "the pulse is %s", stopWord[stop])
	h.stopped = stop
	if !stop {
		n.wakeHeart(h)
	}
	n.w.changed()
}

func (n *node) wakeHeart(h *heart) {
	h.newsAt, h.resumed = n.w.now, n.w.now
	n.w.after(n.w.between(0, 200*time.Microsecond), func() {
		if n.heart == h {
			h.gen++ // what it waited for is past
			h.wakeAt = -1
			h.takerAt = 0
			h.wake()
		}
	})
}

// pause stops the whole virtual machine, or lets it go on.
func (n *node) pause(stop bool) {
	if stop {
		n.stops++
	} else {
		n.stops--
	}
	if paused := n.stops > 0; paused != n.paused {
		n.paused = paused
		n.w.say(n.i, "the machine is %s", stopWord[paused])
		switch {
		case paused && n.agent != nil && !n.agent.stopped:
			n.halt(n.agent)
		case !paused:
			if n.agent != nil && !n.agent.stopped {
				n.wakeAgent(n.agent)
			}
			if n.heart != nil && !n.heart.stopped {
				n.wakeHeart(n.heart)
			}
		}
		n.w.changed()
	}
}

// defend: the pulse hears somebody else claim its address.
func (n *node) defend() {
	if n.heart != nil && !n.heart.stopped && n.answers() {
		n.heart.guard()
	}
}
