package sim

import (
	"fmt"
	"net/netip"
	"time"

	"dyad/failover"
	"dyad/failover/beat"
	"dyad/failover/pulse"
)

const (
	// maxInbox is what a socket holds of heartbeats nobody reads.
	maxInbox = 256
	// pipeDelay is what a report takes to the agent.
	pipeDelay = 100 * time.Microsecond
	// defendEvery bounds how often an address is defended, as in dyad/failover/beat.
	defendEvery = 5 * time.Millisecond
	// settled is how long a pulse must have done nothing new before its heartbeats
	// need not be played: longer than every threshold of the detector.
	settled = 60 * time.Millisecond
)

var pathNames = [2]string{"interlink", "vSwitch1"}

// heart is the pulse process of one node: what dyad/failover/beat's loop does,
// with simulated sockets.
type heart struct {
	w     *world
	i     int
	det   *pulse.Detector
	taker *pulse.Taker
	// skipped is how much time its detector did not see.
	skipped  time.Duration
	nextBeat time.Duration // on the detector's clock
	turned   time.Duration // likewise; for the mutant without a pause check
	feed     beat.Feed
	hung     bool
	isolated bool
	stopped  bool
	inbox    [2][]*datagram
	refused  []int
	claims   []int
	told     bool // the agent knows that we hold the hop
	learned  bool // who owns the hop is known
	owed     bool
	guarded  time.Duration
	later    []failover.Input
	gen      uint64
	wakeAt   time.Duration // relative to the shift
	takerGen uint64
	takerAt  time.Duration
	newsAt   time.Duration // when it last did something new
	resumed  time.Duration // when it was last continued
	fellAt   time.Duration // skipped, when the other node fell silent
	doubtful bool          // it is suspected
	refusals uint64        // counted so far
	buf      [pulse.Size]byte
}

func (w *world) startHeart(i int) {
	n := w.nodes[i]
	if n.agent == nil || n.heart != nil {
		return
	}
	det, err := pulse.NewDetector(pulse.Config{
		Self: names[i], Peer: names[1-i], Key: w.key, Boot: w.rng.Uint64() | 1, Paths: 2, Profile: pulse.Fast,
	}, w.now)
	if err != nil {
		w.broken("the pulse of %s can't start: %v", names[i], err)
		return
	}
	h := &heart{w: w, i: i, det: det, taker: pulse.NewTaker(classes), nextBeat: w.now, turned: w.now, newsAt: w.now, guarded: -time.Second, resumed: -time.Second}
	n.heart, n.knew = h, false
	h.feed = n.agent.feedNow()
	h.taker.Arm(w.now, h.feed.Armed)
	w.say(i, "pulse starts")
	n.agent.emit(failover.PulseReady{Restarts: n.pulses})
	n.pulses++
	w.after(20*time.Millisecond, func() { // opened: ask who owns the hop
		if n.heart == h {
			w.ask(i, targetHop)
		}
	})
	h.wake()
	w.touch()
}

func (h *heart) now() time.Duration { return h.w.now - h.skipped }

// wake is one turn of the loop: take what has arrived, judge, act, beat.
func (h *heart) wake() {
	w, now := h.w, h.now()
	if h.stopped || !w.nodes[h.i].answers() {
		return
	}
	if a := w.nodes[h.i].agent; h.hung && a != nil && a.responsive() {
		h.hung, h.feed = false, a.feedNow()
		h.taker.Arm(w.now, h.feed.Armed)
		h.act()
	}
	h.drain(now)
	if w.mutant == MutantNoPauseCheck {
		for t := h.turned + pulse.Fast.Interval; t < now; t += pulse.Fast.Interval {
			h.det.Turn(t)
		}
	}
	h.turned = now
	if a := w.nodes[h.i].agent; !h.hung && w.now-a.fedAt() > beat.FeedBound {
		h.hung = true
		h.news("its agent hangs")
		h.taker.Arm(w.now, false)
	}
	h.det.Turn(now)
	h.settle(now)
	h.taker.Turn(w.now)
	h.act()
	if now >= h.nextBeat {
		h.beatAll(now, 0)
		if h.nextBeat += pulse.Fast.Interval; h.nextBeat <= now {
			h.nextBeat = now + pulse.Fast.Interval
		}
	}
	h.tellLater()
	h.schedule(now)
}

// drain takes everything that has arrived, before silence is judged.
func (h *heart) drain(now time.Duration) {
	for p := range h.inbox {
		for _, d := range h.inbox[p] {
			h.det.Receive(now, p, d.b[:d.n])
			h.w.spare = append(h.w.spare, d)
		}
		h.inbox[p] = h.inbox[p][:0]
	}
	for _, p := range h.refused {
		h.det.Refuse(now, p)
	}
	h.refused = h.refused[:0]
	for _, t := range h.claims {
		if t == targetHop {
			h.learned = true
			if h.owed {
				h.giveBack()
			}
		}
		h.taker.Claim(h.w.now, t)
		h.act()
	}
	h.claims = h.claims[:0]
}

// schedule asks to be woken when something is due.
func (h *heart) schedule(now time.Duration) {
	w := h.w
	due := min(h.nextBeat, h.det.Due(now)) + h.skipped
	if due <= w.now {
		due = w.now + time.Microsecond
	}
	if rel := due - w.shift; h.gen == 0 || rel != h.wakeAt {
		h.gen++
		h.wakeAt = rel
		w.pushBeat(event{at: due, kind: beatWake, node: h.i, gen: h.gen})
	}
	if at, ok := h.taker.Due(); ok && at != h.takerAt {
		h.takerAt = at
		h.takerGen++
		gen := h.takerGen
		w.at(max(at, w.now), func() {
			if w.nodes[h.i].heart == h && h.takerGen == gen {
				h.takerAt = 0
				h.wake()
			}
		})
	}
}

func (h *heart) news(format string, args ...any) {
	h.newsAt = h.w.now
	h.w.say(h.i, "pulse: "+format, args...)
}

// settle carries what the detector saw to the wire, and then to the agent.
func (h *heart) settle(now time.Duration) {
	refusals := h.det.Counts().Refused
	refused := refusals != h.refusals
	h.refusals = refusals
	events := h.det.Events()
	if len(events) == 0 {
		return
	}
	w, defend := h.w, false
	for k := range events {
		e := &events[k]
		switch e.Kind {
		case pulse.Doubted:
			h.taker.Doubt(w.now)
		case pulse.Calm, pulse.Left:
			h.taker.Calm(w.now)
		case pulse.Suspected:
			h.taker.Quiet(w.now)
			h.fellAt, h.doubtful = h.skipped, true
		case pulse.ProcessDown:
			h.taker.Refused(w.now)
			if h.doubtful {
				e.Silence += h.skipped - h.fellAt
			}
			// A refusal is no word of the node: its silence goes on.
			if !h.doubtful || !refused {
				h.fellAt = h.skipped
			}
			h.doubtful = false
		case pulse.Heard, pulse.Said:
			if e.Kind == pulse.Heard {
				h.doubtful = false
				w.nodes[h.i].knew = true
				if e.Silence > 0 {
					e.Silence += h.skipped - h.fellAt
				}
				h.taker.Heard(w.now)
			}
			h.taker.Cut(w.now, e.Word.Flags&pulse.FlagIsolated != 0)
			defend = defend || e.Word.Flags&pulse.FlagSuspects != 0
		}
	}
	h.act()
	if defend {
		h.guard()
	}
	for k := range events {
		e := &events[k]
		h.news("%s%s%s", e.Kind, pathOf(e), silenceOf(e))
		h.report(e)
	}
}

func pathOf(e *pulse.Event) string {
	switch e.Kind {
	case pulse.PathUp, pulse.PathDown, pulse.Deaf, pulse.Hears, pulse.ProcessDown:
		return " " + pathNames[e.Path]
	}
	return ""
}

func silenceOf(e *pulse.Event) string {
	if e.Silence == 0 {
		return ""
	}
	return fmt.Sprint(" after ", e.Silence)
}

// report tells the agent what an event means.
func (h *heart) report(e *pulse.Event) {
	r := beat.Report{Kind: e.Kind.String(), Silence: e.Silence, Boot: e.Boot}
	switch e.Kind {
	case pulse.Heard, pulse.Said, pulse.Suspected:
		word := e.Word
		r.Word = &word
	case pulse.Doubted, pulse.Calm:
		return
	default:
		if p := pathOf(e); p != "" {
			r.Path = p[1:]
		}
	}
	if in := beat.InputOf(names[1-h.i], h.w.nodes[h.i].pulses, r); in != nil {
		h.w.nodes[h.i].agent.emit(in)
	}
}

func (h *heart) beatAll(now time.Duration, more pulse.Flags) {
	word := h.feed.Word
	word.Flags |= more
	if h.hung {
		word.Flags |= pulse.FlagHung
	}
	if h.isolated {
		word.Flags |= pulse.FlagIsolated
	}
	for p := range h.inbox {
		h.w.beat(h.i, p, h.det.Compose(p, word, h.buf[:]))
	}
}

// act sends what the taker wants.
func (h *heart) act() {
	for _, a := range h.taker.Actions() {
		switch a.Do {
		case pulse.Ask:
			if h.w.mutant != MutantNoARPProbe || a.Target == targetGateway {
				h.w.ask(h.i, a.Target)
			}
		case pulse.Take:
			h.w.announce(h.i, 1-h.i, h.i)
			h.owed = false
			if !h.told {
				h.told = true
				h.moved(true)
			}
		case pulse.Give:
			h.giveBack()
			if h.told {
				h.told = false
				h.moved(false)
			}
		}
	}
	events := h.taker.Events()
	for k := range events {
		switch events[k].Kind {
		case pulse.GatewayDead:
			h.isolated = true
		case pulse.GatewayAlive:
			h.isolated = false
		}
		h.news("%s", events[k].Kind)
		if in := beat.InputOf(names[1-h.i], 0, beat.Report{Kind: events[k].Kind.String()}); in != nil {
			h.later = append(h.later, in)
		}
	}
}

func (h *heart) moved(taken bool) {
	verb := "gives the next hop back"
	if taken {
		verb = "takes the next hop"
	}
	h.news("%s", verb)
	h.later = append(h.later, failover.PulseHop{Node: names[1-h.i], Address: hops[1-h.i], Interface: "eth1", Taken: taken})
}

func (h *heart) giveBack() {
	if h.owed = !h.learned; h.owed {
		h.w.ask(h.i, targetHop)
		return
	}
	h.w.announce(h.i, 1-h.i, 1-h.i)
}

func (h *heart) tellLater() {
	for _, in := range h.later {
		h.w.nodes[h.i].agent.emit(in)
	}
	h.later = h.later[:0]
}

// guard says that the own next hop is here.
func (h *heart) guard() {
	if h.w.now-h.guarded >= defendEvery {
		h.guarded = h.w.now
		h.w.announce(h.i, h.i, h.i)
	}
}

// quiet: nothing new for long enough. A pulse that stands still is quiet once its
// sockets are full, or nothing comes.
func (h *heart) quiet() bool {
	if !h.stopped {
		return h.w.now-h.newsAt >= settled
	}
	for p := range h.inbox {
		if len(h.inbox[p]) < maxInbox && h.w.nodes[h.i].answers() && h.w.nodes[1-h.i].heart != nil && h.w.open(route(1-h.i, p)) {
			return false
		}
	}
	return true
}

var hops = [2]netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")}
