package owner

import (
	"net/netip"
	"slices"
	"time"

	"dyad/neighbor"
)

// Mode is what a node is to an address.
type Mode uint8

// The modes.
const (
	// Spare keeps the address until the other node claims it, and takes it when
	// nobody answers for it.
	Spare Mode = iota + 1
	// Own claims it, after asking whether a stranger has it.
	Own
	// Take claims it at once: the other node does not forward.
	Take
)

// Wish is one address, and what this node is to it.
type Wish struct {
	Address netip.Addr
	Mode    Mode
	// Firm: the other node gives way. Never true on both nodes while they hold
	// each other for well.
	Firm bool
	// Preferred: this node asks sooner than the other one, so that of two spares
	// one is first.
	Preferred bool
	// Quick: there is doubt about the other node, so watch closely. Spare only.
	Quick bool
	// Known: it was announced here until now in another way, so no stranger has
	// it: claim it without asking.
	Known bool
}

// Times on the wire.
const (
	// BurstGap separates the first Burst announcements, so that one lost frame
	// costs milliseconds. After them the gap is SlowFirst, and doubles up to
	// SlowMost: a cache that missed all of the burst is put right.
	Burst     = 3
	BurstGap  = 3 * time.Millisecond
	SlowFirst = 500 * time.Millisecond
	SlowMost  = 10 * time.Second
	// Probes are sent ProbeGap apart, and the last one gets ProbeWait for its
	// answer. RFC 5227 section 1.1 waits up to 7 s, for hosts that may be asleep;
	// one that answers later is found while announcing.
	Probes    = 3
	ProbeGap  = 50 * time.Millisecond
	ProbeWait = 100 * time.Millisecond
	// DefendInterval is how often an address is defended against a stranger (RFC
	// 5227 section 1.1), and how soon one that a stranger has is tried again.
	DefendInterval = 10 * time.Second
	// DefendGap is how often it is defended against the other node, which gives
	// way as soon as it hears it.
	DefendGap = 20 * time.Millisecond
	// ConflictOver is how long a stranger must not be heard before it counts as
	// gone; it is asked every DefendInterval.
	ConflictOver = 25 * time.Second
	// WatchSlow is when a spare asks first whether the address is answered for, and
	// how often; half of it on the preferred node. WatchQuick is how often while
	// there is doubt. WatchEach bounds it to one address in that time, however many
	// there are.
	WatchSlow  = time.Second
	WatchQuick = 100 * time.Millisecond
	WatchEach  = 5 * time.Millisecond
	// WatchMisses questions in a row without an answer mean that nobody has it.
	// Each gets AskGap, or AskQuick in doubt.
	WatchMisses = 3
	AskGap      = 100 * time.Millisecond
	AskQuick    = 20 * time.Millisecond
	// TwinAsks questions for the other node's own addresses, TwinGap apart, tell
	// its MAC from a stranger's. One that did not answer is asked again when
	// somebody claims an address, not before TwinAgain has passed.
	TwinAsks  = 3
	TwinGap   = 200 * time.Millisecond
	TwinAgain = 2 * time.Second
)

// Do is what to do on the wire.
type Do uint8

// What a [Machine] wants sent.
const (
	Announce Do = iota + 1 // the address is here
	Answer                 // the same, to who asked
	Ask                    // who has it
	Probe                  // has anybody; claims nothing
)

// Action is one frame, or one set of frames.
type Action struct {
	Do      Do
	Address netip.Addr
	To      neighbor.MAC // Answer only
	Asker   netip.Addr   // Answer only; unspecified if it has no address yet
}

// Kind is what has changed.
type Kind uint8

// The kinds of [Event].
const (
	Taken    Kind = iota + 1 // this node answers for the address
	Given                    // it does so no more
	Conflict                 // a stranger claims it too
	Cleared                  // no stranger has it any more
)

// Event is something that has changed, for people.
type Event struct {
	Kind    Kind
	Address netip.Addr
	MAC     neighbor.MAC // of who claims it, if anybody does
	Why     string
}

type phase uint8

const (
	down phase = iota // the interface is
	watching
	probing
	held
)

// claim is one address. next is when its phase has something to do.
type claim struct {
	Wish
	phase      phase
	next       time.Duration
	left       int           // probes or announcements of the burst, still to come
	gap        time.Duration // to the next slow announcement
	unanswered int           // questions in a row
	twinHas    bool          // the other node was heard to have it
	conflict   bool
	stranger   neighbor.MAC
	heard      time.Duration // when the stranger was
	defended   time.Duration
	defends    int
}

// twin is an address of the other node's own.
type twin struct {
	address netip.Addr
	mac     neighbor.MAC
	asked   int
	next    time.Duration
}

// Machine speaks for one interface. Its time is that since some fixed instant and
// does not go back. It is not safe for use by several goroutines.
type Machine struct {
	up      bool
	list    []*claim // sorted by address
	claims  map[netip.Addr]*claim
	twins   []twin
	due     time.Duration
	some    bool // due is set
	actions []Action
	events  []Event
}

// New returns a machine of an interface that is down, without addresses.
func New() *Machine { return &Machine{claims: map[netip.Addr]*claim{}} }

// Actions returns what is to be sent since the last call; valid until the next
// step.
func (m *Machine) Actions() []Action {
	a := m.actions
	m.actions = m.actions[:0]
	return a
}

// Events returns what has changed since the last call; valid until the next step.
func (m *Machine) Events() []Event {
	e := m.events
	m.events = m.events[:0]
	return e
}

// Due is when [Machine.Turn] has something to do; false if never.
func (m *Machine) Due() (time.Duration, bool) { return m.due, m.some }

// State is how an address stands.
type State struct {
	Wish
	Held bool
	// Conflict: a stranger with the MAC Stranger claims it.
	Conflict bool
	Stranger neighbor.MAC
	// Why it is not held.
	Why string
}

// States lists how all addresses stand, sorted.
func (m *Machine) States() []State {
	out := make([]State, 0, len(m.list))
	for _, c := range m.list {
		s := State{Wish: c.Wish, Held: c.phase == held, Conflict: c.conflict, Stranger: c.stranger}
		switch {
		case c.phase == down:
			s.Why = "the interface is down"
		case c.phase == probing && c.conflict:
			s.Why = "another host has it"
		case c.phase == probing:
			s.Why = "asking whether another host has it"
		case c.phase == watching:
			s.Why = "the other node answers for it"
		}
		out = append(out, s)
	}
	return out
}

// Want replaces all wishes, and the addresses of the other node's own on this
// segment. What is not wished for any more is given up without a word: somebody
// else announces it, or nobody.
func (m *Machine) Want(now time.Duration, wishes []Wish, twins []netip.Addr) {
	m.meet(now, twins)
	keep := make(map[netip.Addr]bool, len(wishes))
	for _, w := range wishes {
		keep[w.Address] = true
		c := m.claims[w.Address]
		if c == nil {
			c = &claim{}
			m.claims[w.Address] = c
			m.list = append(m.list, c)
		}
		if c.Wish != w {
			was := c.Wish
			c.Wish = w
			if m.up {
				m.begin(now, c, was)
			}
		}
	}
	m.list = slices.DeleteFunc(m.list, func(c *claim) bool {
		if keep[c.Address] {
			return false
		}
		if c.phase == held {
			m.tell(Given, c, neighbor.MAC{}, "it is no longer to be announced here")
		}
		delete(m.claims, c.Address)
		return true
	})
	slices.SortFunc(m.list, func(a, b *claim) int { return a.Address.Compare(b.Address) })
	m.Turn(now)
}

// meet sets the other node's own addresses; what is known of those that stay is
// kept.
func (m *Machine) meet(now time.Duration, addresses []netip.Addr) {
	was := m.twins
	m.twins = make([]twin, 0, len(addresses))
	for _, a := range addresses {
		t := twin{address: a, next: now}
		for _, w := range was {
			if w.address == a {
				t = w
			}
		}
		m.twins = append(m.twins, t)
	}
}

// Link says whether the interface can be used, for the first time or again, also
// after its MAC has changed.
func (m *Machine) Link(now time.Duration, up bool) {
	m.up = up
	for i := range m.twins {
		t := &m.twins[i]
		t.asked, t.next = 0, now
		if up && !t.mac.IsZero() {
			m.do(Ask, t.address) // so that it knows this node's MAC
		}
	}
	for _, c := range m.list {
		if !up {
			if c.phase == held {
				m.tell(Given, c, neighbor.MAC{}, "the interface is down")
			}
			c.phase, c.twinHas = down, false
			continue
		}
		if c.phase == held { // a new MAC
			m.hold(now, c, "")
			continue
		}
		m.begin(now, c, Wish{})
	}
	m.Turn(now)
}

// begin does what the wish asks for, which has just changed.
func (m *Machine) begin(now time.Duration, c *claim, was Wish) {
	switch {
	case c.phase == held && !c.Firm:
		m.do(Ask, c.Address) // the other node may have claimed it a moment too soon
	case c.phase == held:
	case c.Mode == Take && (was.Mode != Take || c.Firm):
		c.conflict = false
		m.hold(now, c, "the other node does not forward")
	case c.Mode == Own && c.Known:
		m.hold(now, c, "it was announced by BGP here")
	case c.Mode == Own && c.phase == watching && c.twinHas:
		m.hold(now, c, "this node is its owner, and the other one gives it up")
	case c.Mode == Own && c.phase != probing:
		c.phase, c.left, c.next = probing, Probes, now
	case c.Mode == Spare && c.phase != watching:
		c.phase, c.unanswered, c.next = watching, 0, now+m.interval(c)
	}
	if c.Mode == Spare && c.phase == watching && c.Quick && !was.Quick {
		c.next = min(c.next, now)
	}
}

func (m *Machine) hold(now time.Duration, c *claim, why string) {
	c.phase, c.left, c.next, c.gap = held, Burst, now, SlowFirst
	if why != "" {
		m.tell(Taken, c, neighbor.MAC{}, why)
	}
}

func (m *Machine) tell(k Kind, c *claim, mac neighbor.MAC, why string) {
	m.events = append(m.events, Event{Kind: k, Address: c.Address, MAC: mac, Why: why})
}

func (m *Machine) do(d Do, a netip.Addr) {
	m.actions = append(m.actions, Action{Do: d, Address: a})
}
