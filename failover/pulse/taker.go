package pulse

import "time"

// Class is what a target of a [Taker] is to this node.
type Class uint8

// The classes.
const (
	// Hop is an address of the other node that a router uses as a next hop. It is
	// taken while the other node is silent and does not defend it.
	Hop Class = iota + 1
	// Kernel is another address of the other node; it is only asked.
	Kernel
	// Gateway is a router; whether it answers tells who is cut off.
	Gateway
)

// Do is what to do on the wire.
type Do uint8

// What a [Taker] wants done.
const (
	Ask  Do = iota + 1 // ask who has the target's address
	Take               // announce that it is here
	Give               // announce that it is at its owner's
)

// Action is one frame, or one set of frames, to send.
type Action struct {
	Target int
	Do     Do
}

// Times on the wire.
const (
	// AskEvery is the gap between questions, and what the last one gets for its
	// answer; AskLimit unanswered in a row mean that nobody is there.
	AskEvery = 10 * time.Millisecond
	AskLimit = 3
	// GatewayLimit is AskLimit for routers, which answer from a slower place.
	GatewayLimit = 5
	// AskSlow is the gap once it is known who is there, AskIdle once that has been
	// so for AskIdleAfter questions: a path may be down for days. A silent node whose
	// kernel answers is asked at AskSlow for as long as it lasts. A question that is not
	// answered within AskEvery is asked again at once.
	AskSlow      = 50 * time.Millisecond
	AskIdle      = time.Second
	AskIdleAfter = 200
	// TakeGap separates the first TakeBurst announcements, so that one lost frame
	// costs milliseconds; TakeSlow those after them, as long as it is held.
	TakeGap   = 3 * time.Millisecond
	TakeBurst = 3
	TakeSlow  = 500 * time.Millisecond
	// GiveBurst is how often it is said that an address is at its owner's again,
	// TakeGap apart: a router that missed it would go on sending here.
	GiveBurst = 3
)

type target struct {
	class      Class
	closed     bool // nothing can be sent there
	dark       bool // our own interface has no carrier
	asked      int  // questions in this doubt
	unanswered int  // in a row
	answered   bool // somebody is there
	nextAsk    time.Duration
	rest       time.Duration // when the next question is due if the last one is answered
	held       bool
	gives      int           // announcements that it is at its owner's, still to be made
	nextGive   time.Duration // when the next of them is due
	announced  int
	nextTake   time.Duration
}

// limit is how many unanswered questions in a row mean that nobody is there.
func (x *target) limit() int {
	if x.class == Gateway {
		return GatewayLimit
	}
	return AskLimit
}

// presence is what the answers of a class of targets add up to.
type presence uint8

const (
	notKnown presence = iota
	present
	absent
)

// Taker asks and takes. It is not safe for use by several goroutines.
type Taker struct {
	targets []target
	armed   bool
	doubt   bool // something is silent: ask
	quiet   bool // the other node is silent altogether
	cut     bool // the other node says that its routers do not answer it
	kernel  presence
	gateway presence
	actions []Action
	events  []Event
}

// NewTaker returns a taker for targets of the given classes, not armed.
func NewTaker(classes []Class) *Taker {
	t := &Taker{
		targets: make([]target, len(classes)),
		actions: make([]Action, 0, 4*len(classes)), events: make([]Event, 0, 16),
	}
	for i, c := range classes {
		t.targets[i].class = c
	}
	return t
}

// Actions returns what is to be done since the last call; valid until the next
// step.
func (t *Taker) Actions() []Action {
	a := t.actions
	t.actions = t.actions[:0]
	return a
}

// Events returns what has changed since the last call; valid until the next step.
func (t *Taker) Events() []Event {
	e := t.events
	t.events = t.events[:0]
	return e
}

// Held tells whether the address of target i is announced here now.
func (t *Taker) Held(i int) bool { return t.targets[i].held }

// Open tells whether frames about target i can be sent and heard. Until told
// otherwise they can. A target that is not open is neither asked nor taken, and
// says nothing about who is there.
func (t *Taker) Open(now time.Duration, i int, open bool) {
	x := &t.targets[i]
	if x.closed == !open {
		return
	}
	x.closed = !open
	x.asked, x.unanswered, x.nextAsk, x.rest = 0, 0, now, now
	t.step(now)
}

// Arm lets the taker take, or forbids it: a node that steps down, or that holds
// no service address, must not draw traffic to itself.
func (t *Taker) Arm(now time.Duration, armed bool) {
	t.armed = armed
	t.step(now)
}

// Doubt starts asking, or asks anew: a path is silent, or about to be, or all
// are. Earlier answers count no more; once the node is silent altogether the
// questions go on anyway, and what a refusal has shown stays true.
func (t *Taker) Doubt(now time.Duration) {
	if t.quiet {
		return
	}
	t.doubt, t.kernel = true, notKnown
	if t.gateway == present {
		t.gateway = notKnown
	}
	for i := range t.targets {
		x := &t.targets[i]
		x.asked, x.unanswered, x.answered, x.nextAsk, x.rest = 0, 0, false, now, now
	}
	t.step(now)
}

// Calm ends it: every path hears the other node.
func (t *Taker) Calm(now time.Duration) {
	if t.gateway == absent {
		t.emit(GatewayAlive)
	}
	t.doubt, t.quiet, t.kernel, t.gateway = false, false, notKnown, notKnown
	t.step(now)
}

// Quiet: no path hears the other node.
func (t *Taker) Quiet(now time.Duration) {
	if !t.doubt {
		t.Doubt(now)
	}
	t.quiet = true
	if t.kernel == present {
		t.emit(KernelAlive)
	}
	if t.gateway == present {
		t.emit(GatewayAlive)
	}
	t.step(now)
}

// Refused: the other node's process is gone, and its kernel, or its own last
// word, said so. What the kernel does is the routers' business: nothing is taken
// unless it stops answering too.
func (t *Taker) Refused(now time.Duration) {
	t.Doubt(now)
	for i := range t.targets {
		if x := &t.targets[i]; x.class != Gateway {
			x.answered, x.unanswered = true, 0
		}
	}
	t.quiet, t.kernel = true, present
	t.step(now)
}

// Heard: some path hears the other node again.
func (t *Taker) Heard(now time.Duration) {
	t.quiet = false
	t.step(now)
}

// Cut: the other node says whether its routers answer it.
func (t *Taker) Cut(now time.Duration, cut bool) {
	t.cut = cut
	t.step(now)
}

// Claim: somebody else says on the wire that it has the address of target i.
func (t *Taker) Claim(now time.Duration, i int) {
	x := &t.targets[i]
	if !t.doubt {
		return
	}
	x.answered, x.unanswered = true, 0
	x.nextAsk = max(x.nextAsk, x.rest)
	if x.class == Gateway {
		if t.gateway == absent || t.quiet && t.gateway != present {
			t.emit(GatewayAlive)
		}
		if t.gateway != present {
			t.repeat(now)
		}
		t.gateway = present
	} else {
		if t.quiet && t.kernel != present {
			t.emit(KernelAlive)
		}
		t.kernel = present
	}
	t.step(now)
}

// repeat announces anew what is held: a router is heard for the first time since
// the doubt, and what it was told before may have met the same cut as its answer.
func (t *Taker) repeat(now time.Duration) {
	for i := range t.targets {
		if x := &t.targets[i]; x.held {
			x.announced, x.nextTake = 0, now
		}
	}
}

// Turn does what is due.
func (t *Taker) Turn(now time.Duration) { t.step(now) }

// Due is when Turn has something to do next; false if never.
func (t *Taker) Due() (time.Duration, bool) {
	var due time.Duration
	some := false
	at := func(d time.Duration) {
		if !some || d < due {
			due, some = d, true
		}
	}
	for i := range t.targets {
		x := &t.targets[i]
		if t.doubt && !x.closed && !x.dark {
			at(x.nextAsk)
		}
		if x.held {
			at(x.nextTake)
		}
		if x.gives > 0 {
			at(x.nextGive)
		}
	}
	return due, some
}

func (t *Taker) emit(k Kind) {
	if len(t.events) < cap(t.events) {
		t.events = append(t.events, Event{Kind: k})
	}
}

func (t *Taker) do(i int, d Do) {
	if len(t.actions) < cap(t.actions) {
		t.actions = append(t.actions, Action{i, d})
	}
}

// step takes and gives before it asks: a router waits for the former.
func (t *Taker) step(now time.Duration) {
	if t.doubt {
		t.expire(now)
	}
	for i := range t.targets {
		if t.targets[i].class == Hop {
			t.hold(now, i)
		}
	}
	if !t.doubt {
		return
	}
	for i := range t.targets {
		t.ask(now, i)
	}
}

// hold takes or gives one next hop.
func (t *Taker) hold(now time.Duration, i int) {
	x := &t.targets[i]
	want := t.armed && !x.closed && !x.dark && (t.quiet || t.cut && t.doubt) && !x.answered
	switch {
	case want && !x.held:
		x.held, x.announced, x.nextTake, x.gives = true, 0, now, 0
	case !want && x.held:
		x.held, x.gives, x.nextGive = false, GiveBurst, now
	}
	if !x.held && x.gives > 0 && now >= x.nextGive {
		x.gives--
		x.nextGive = now + TakeGap
		t.do(i, Give)
	}
	if x.held && now >= x.nextTake {
		x.announced++
		x.nextTake = now + TakeGap
		if x.announced >= TakeBurst {
			x.nextTake = now + TakeSlow
		}
		t.do(i, Take)
	}
}
