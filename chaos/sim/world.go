package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"time"

	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/failover/pulse"
	"dyad/projections"
)

const cluster = "sim"

// world is one run: everything there is, and what happens next.
type world struct {
	seed   uint64
	rng    *rand.Rand
	mutant Mutant
	all    bool // play every heartbeat
	now    time.Duration
	seq    uint64
	slow   queue // everything but heartbeats
	beats  queue // heartbeats, at times relative to shift
	shift  time.Duration
	spare  []*datagram
	key    []byte

	nodes      [2]*node
	wires      [wires]wire
	cuts       [wires]int
	router     *router
	claim      quorum.Claim
	hasWitness bool
	toWitness  [2]bool

	log     []eventlog.Envelope
	head    eventlog.Head
	streams map[string]uint64
	keys    map[string]eventlog.Seq

	prefixes []netip.Prefix
	clients  []outage
	health   [2]watched
	calm     watched // the network
	expects  []expectation
	durable  []string
	swarm    swarm

	lines   []string // the newest of the timeline, a ring
	line    int
	hash    uint64
	keep    *[]string
	failure error
	stats   Result
}

func newWorld(o Options, seed uint64) *world {
	w := &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0xd7ad)), mutant: o.Mutant, all: o.PlayAll,
		streams: map[string]uint64{}, keys: map[string]eventlog.Seq{}, keep: o.Timeline,
		hash: fnv.New64a().Sum64(), lines: make([]string, 0, timelineLen),
		stats: Result{Faults: map[string]int{}, Worst: map[string]time.Duration{}},
	}
	w.key, _ = pulse.DeriveKey([]byte("the secret of a simulated cluster")) // long enough
	w.router = &router{w: w, up: true, hold: birdHold, mac: [2]int{0, 1}, fib: map[netip.Prefix][]int{}}
	if w.rng.IntN(2) == 0 {
		w.router.hold = frrHold
	}
	w.hasWitness, w.toWitness = w.rng.IntN(4) > 0, [2]bool{true, true}
	first, state := founding()
	w.log = append(w.log, first...)
	w.head = state.Head
	for _, e := range first {
		w.streams[e.Stream]++
	}
	for i := range w.nodes {
		w.router.rib[i] = map[netip.Prefix]projections.Attributes{}
		w.nodes[i] = &node{
			w: w, i: i, kernel: true, checkpoint: state, record: quorum.Record{Mode: quorum.Pair, Epoch: state.Head.Epoch},
			store: store{members: both, applied: len(first)},
		}
		w.health[i] = watched{since: -1}
		w.nodes[i].restart(w.between(100*time.Millisecond, 3*time.Second))
	}
	w.claim = quorum.Claim{Cluster: cluster, Epoch: state.Head.Epoch, Mode: quorum.Pair}
	for _, sv := range []string{"first", "second", "third"} {
		a := state.Services[sv].Addresses[0]
		w.prefixes = append(w.prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	w.clients = make([]outage, len(w.prefixes))
	w.touch()
	return w
}

// between is a time drawn from [a, b), in whole microseconds and a few
// nanoseconds that keep two drawn times apart.
func (w *world) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

func (w *world) at(t time.Duration, f func()) {
	w.seq++
	w.slow.push(event{at: t, seq: w.seq, do: f})
}

func (w *world) after(d time.Duration, f func()) { w.at(w.now+d, f) }

func (w *world) pushBeat(e event) {
	w.seq++
	e.seq = w.seq
	e.at -= w.shift
	w.beats.push(e)
}

// run plays until then, or until something is broken.
func (w *world) run(until time.Duration) error {
	for w.failure == nil {
		slow, some := w.slow.next()
		beat, beating := w.beats.next()
		beat += w.shift
		if beating && !w.all && w.skip(beat, slow, some, until) {
			continue
		}
		switch {
		case beating && (!some || beat < slow):
			if beat >= until {
				w.now = until
				return nil
			}
			e := w.beats.pop()
			w.now = e.at + w.shift
			w.stats.Played++
			w.play(e)
		case some && slow < until:
			e := w.slow.pop()
			w.now = e.at
			e.do()
		default:
			w.now = until
			return nil
		}
	}
	return w.failure
}

func (w *world) play(e event) {
	switch e.kind {
	case beatArrive:
		w.arrive(e)
	case beatWake:
		if h := w.nodes[e.node].heart; h != nil && h.gen == e.gen {
			h.wake()
		}
	case beatRefuse:
		if h := w.nodes[e.node].heart; h != nil && len(h.refused) < maxInbox {
			h.refused = append(h.refused, e.path)
			if !h.stopped {
				h.wake()
			}
		}
	}
}

// guard is how long before the next other event heartbeats are played again.
const guard = 2 * time.Millisecond

// skip passes over whole intervals in which both pulses would do what they did in
// the last one.
//
// Invariant: the state of a detector after an interval without news differs from
// the one before by that interval and by its counters, and it compares neither
// with anything that does not move along. So its clock stands still meanwhile,
// and so do the heartbeats on their way.
func (w *world) skip(beat, slow time.Duration, some bool, until time.Duration) bool {
	end := until
	if some && slow < end {
		end = slow
	}
	const step = 5 * time.Millisecond // pulse.Fast.Interval
	k := (end - beat - guard) / step
	if k < 1 || w.rough() {
		return false
	}
	for _, n := range w.nodes {
		if n.heart != nil && !n.heart.quiet() {
			return false
		}
	}
	d := k * step
	w.shift += d
	for _, n := range w.nodes {
		if h := n.heart; h != nil && !h.stopped && n.answers() {
			h.skipped += d
		}
	}
	w.stats.Skipped += d
	return true
}

// timelineLen is how many lines are kept for a failure.
const timelineLen = 400

// say adds a line to the timeline; i is a node, or nobody.
func (w *world) say(i int, format string, args ...any) {
	who := "-"
	if i != nobody {
		who = names[i]
	}
	s := fmt.Sprintf("%14.6f %-6s %s", w.now.Seconds(), who, fmt.Sprintf(format, args...))
	for k := range len(s) {
		w.hash = (w.hash ^ uint64(s[k])) * 1099511628211
	}
	if w.keep != nil {
		*w.keep = append(*w.keep, s)
	}
	if len(w.lines) < timelineLen {
		w.lines = append(w.lines, s)
		return
	}
	w.lines[w.line] = s
	w.line = (w.line + 1) % timelineLen
}

// timeline is what was said last, oldest first.
func (w *world) timeline() []string {
	return append(append([]string(nil), w.lines[w.line:]...), w.lines[:w.line]...)
}

// broken ends the run: a promise was not kept.
func (w *world) broken(format string, args ...any) {
	if w.failure == nil {
		w.say(nobody, "BROKEN: "+format, args...)
		w.failure = &Failure{Seed: w.seed, At: w.now, Why: fmt.Sprintf(format, args...), Timeline: w.timeline()}
	}
}

// changed looks at everything that depends on who reaches whom. Heartbeats may
// come or stay away from now on.
func (w *world) changed() {
	for _, n := range w.nodes {
		if n.heart != nil {
			n.heart.newsAt = w.now
		}
	}
	w.sessions()
	w.member(0)
	w.member(1)
	w.dirty()
	w.touch()
}

// rough: what passes some wire is a matter of luck.
func (w *world) rough() bool {
	for i := range w.wires {
		if w.wires[i].rough() {
			return true
		}
	}
	return false
}

// cut cuts wires, or mends them. Several may cut the same.
func (w *world) cut(on bool, list ...int) {
	for _, x := range list {
		if on {
			w.cuts[x]++
		} else {
			w.cuts[x]--
		}
		w.wires[x].cut = w.cuts[x] > 0
	}
	w.changed()
}
