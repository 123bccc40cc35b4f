package pulse

import (
	"errors"
	"fmt"
	"time"
)

// Config of a [Detector].
type Config struct {
	Self, Peer string
	Key        []byte // from [DeriveKey]
	// Boot is new at every start and never 0.
	Boot    uint64
	Paths   int // 1–[MaxPaths]; both nodes number them alike
	Profile Profile
}

// echoWindow is how many of our own heartbeats an echo may lie back to prove
// that the other node hears us now.
const echoWindow = 1024

// state is what the detector holds of the other node.
type state uint8

const (
	unknown state = iota // never heard, or it has left
	alive
	suspected
	down    // its process is known to be gone
	severed // nothing is known of it: we are cut off ourselves
)

// path is one way between the nodes.
type path struct {
	heardAt time.Duration
	up      bool
	fell    bool          // silent since it was last heard
	dark    bool          // our own interface has no carrier
	refused bool          // by the other node's kernel, since it was last heard
	deaf    bool          // told: the other node does not hear us here
	upSince time.Duration // for deaf: it needs time to hear us
	seen    uint64        // highest counter of the accepted boot
	// The newest heartbeat of a boot that is not accepted yet, to be echoed.
	candidate, candidateSeen uint64
}

// Detector hears the other node, or does not. It is not safe for use by
// several goroutines.
type Detector struct {
	cfg   Config
	codec *Codec
	paths [MaxPaths]path

	state    state
	doubted  bool   // told: some path is silent
	quieting bool   // told: all of them are
	cutOff   bool   // no interface towards a router has carrier
	boot     uint64 // of the other node; 0 before any was accepted
	word     Word   // its last
	interval time.Duration
	heardAt  time.Duration
	turned   time.Duration // when Turn last ran
	counter  uint64        // of our own heartbeats
	in, out  Heartbeat     // scratch
	counts   Counts
	events   []Event
}

// maxEvents of one step: each path may turn up or down, deaf or hearing, and the
// node as a whole has a few.
const maxEvents = 4*MaxPaths + 16

// NewDetector returns a detector that has heard nothing yet.
func NewDetector(cfg Config, now time.Duration) (*Detector, error) {
	if cfg.Paths < 1 || cfg.Paths > MaxPaths {
		return nil, fmt.Errorf("%d paths; 1–%d are possible", cfg.Paths, MaxPaths)
	}
	if cfg.Boot == 0 {
		return nil, errors.New("a boot needs a number other than 0")
	}
	if cfg.Profile.Interval < time.Millisecond || cfg.Profile.Misses < 2 {
		return nil, fmt.Errorf("profile %v: an interval of at least 1 ms and two misses are needed", cfg.Profile)
	}
	c, err := NewCodec(cfg.Key, cfg.Self, cfg.Peer)
	if err != nil {
		return nil, err
	}
	return &Detector{
		cfg: cfg, codec: c, interval: cfg.Profile.Interval, turned: now, events: make([]Event, 0, maxEvents),
	}, nil
}

// Events returns what has changed since the last call. The slice is valid until
// the next step.
func (d *Detector) Events() []Event {
	e := d.events
	d.events = d.events[:0]
	return e
}

// Counts returns the counters.
func (d *Detector) Counts() Counts { return d.counts }

// Calm tells whether every path hears the other node, and none has been silent
// for long.
func (d *Detector) Calm() bool { return d.state == alive && !d.doubted }

// Quiet tells whether the other node is not heard though it was.
func (d *Detector) Quiet() bool { return d.state == suspected || d.state == down || d.state == severed }

func (d *Detector) emit(e Event) {
	if len(d.events) < cap(d.events) {
		d.events = append(d.events, e)
	}
}

// pace is the profile at the slower of the two nodes' intervals, so that a
// difference between two configurations makes nobody suspect the other.
func (d *Detector) pace() Profile {
	p := d.cfg.Profile
	p.Interval = d.interval
	return p
}

// Compose writes the heartbeat for a path into buf, which has room for [Size]
// bytes. Flags for what the detector knows itself are added to those of w.
func (d *Detector) Compose(pathID int, w Word, buf []byte) []byte {
	p := &d.paths[pathID]
	d.counter++
	d.counts.Sent++
	h := &d.out
	*h = Heartbeat{
		Word: w, Path: uint8(pathID), Boot: d.cfg.Boot, Counter: d.counter,
		EchoBoot: d.boot, EchoCounter: p.seen, Interval: d.cfg.Profile.Interval,
	}
	if p.candidate != 0 && !p.up {
		h.EchoBoot, h.EchoCounter = p.candidate, p.candidateSeen
	}
	for i := range d.cfg.Paths {
		if d.paths[i].up {
			h.Heard |= 1 << i
		}
	}
	if d.state == suspected {
		h.Flags |= FlagSuspects
	}
	return d.codec.Seal(buf, h)
}

// Receive takes a datagram that came on a path at a time, which may lie before
// the last turn. What is not a fresh heartbeat of the other node is counted and
// changes nothing.
func (d *Detector) Receive(at time.Duration, pathID int, b []byte) {
	h := &d.in
	switch err := d.codec.Open(b, h); {
	case errors.Is(err, ErrForged):
		d.counts.Forged++
		return
	case err != nil:
		d.counts.Foreign++
		return
	case int(h.Path) != pathID:
		d.counts.Misrouted++
		return
	}
	p := &d.paths[pathID]
	if h.Boot != d.boot && !d.accept(p, h) {
		d.counts.Unproven++
		return
	}
	if h.Counter <= p.seen {
		d.counts.Replayed++
		return
	}
	d.counts.Received++
	p.seen = h.Counter
	d.hear(at, pathID, h)
}

// accept believes a new boot as soon as it echoes a recent heartbeat of ours.
//
// Invariant: nothing recorded earlier passes, as what it echoes is of another
// boot of ours or has left the window. No clock is compared.
func (d *Detector) accept(p *path, h *Heartbeat) bool {
	if h.EchoBoot != d.cfg.Boot || h.EchoCounter > d.counter || d.counter-h.EchoCounter >= echoWindow || h.EchoCounter == 0 {
		p.candidate, p.candidateSeen = h.Boot, h.Counter
		return false
	}
	d.boot = h.Boot
	for i := range d.paths {
		q := &d.paths[i]
		q.seen, q.candidate, q.candidateSeen = 0, 0, 0
	}
	return true
}

// hear takes an authentic, fresh heartbeat.
func (d *Detector) hear(now time.Duration, pathID int, h *Heartbeat) {
	d.interval = max(d.cfg.Profile.Interval, h.Interval)
	switch {
	case h.Flags&FlagBye != 0:
		d.leave(now, Left, h)
		return
	case h.Flags&FlagGone != 0:
		d.leave(now, ProcessDown, h)
		return
	}
	p := &d.paths[pathID]
	silence := now - d.heardAt
	p.heardAt, p.fell, p.refused, d.heardAt = now, false, false, max(d.heardAt, now)
	if !p.up {
		p.up, p.upSince, p.deaf = true, now, false
		d.emit(Event{Kind: PathUp, Path: pathID})
	}
	if d.state != alive {
		if d.state == unknown {
			silence = 0
		}
		d.state, d.word = alive, h.Word
		d.emit(Event{Kind: Heard, Path: pathID, Silence: silence, Word: h.Word, Boot: h.Boot})
	} else if h.Word != d.word {
		d.word = h.Word
		d.emit(Event{Kind: Said, Path: pathID, Word: h.Word, Boot: h.Boot})
	}
	d.oneWay(now, pathID, h)
}

// oneWay compares what we hear with what the other node says it hears. It gets
// the time of two silences to hear us on a path that has just come up.
func (d *Detector) oneWay(now time.Duration, pathID int, h *Heartbeat) {
	p := &d.paths[pathID]
	hears := h.Heard&(1<<pathID) != 0
	switch {
	case hears && p.deaf:
		p.deaf = false
		d.emit(Event{Kind: Hears, Path: pathID})
	case hears:
		p.upSince = now
	case !p.deaf && now-p.upSince > 2*d.pace().Silence():
		p.deaf = true
		d.doubted = false // what a router answered before says nothing about now
		d.emit(Event{Kind: Deaf, Path: pathID})
	}
}

// leave takes the other node's last words.
//
// Invariant: after them only what is newer is believed, on whichever path; what
// they overtook must not bring the node back for one moment.
func (d *Detector) leave(now time.Duration, k Kind, h *Heartbeat) {
	if d.state == unknown || d.state == down && k == ProcessDown {
		return
	}
	d.lower(now)
	d.emit(Event{Kind: k, Silence: now - d.heardAt, Word: h.Word, Boot: h.Boot})
	d.state, d.heardAt, d.word = down, now, h.Word
	if k == Left {
		d.state = unknown
	}
	for i := range d.paths {
		d.paths[i].seen = max(d.paths[i].seen, h.Counter)
	}
}

// lower marks every path as down.
func (d *Detector) lower(now time.Duration) {
	for i := range d.cfg.Paths {
		if p := &d.paths[i]; p.up {
			p.up = false
			d.emit(Event{Kind: PathDown, Path: i, Silence: now - p.heardAt})
		}
	}
}

// Refuse takes the word of the other node's kernel that nobody receives the
// heartbeats on a path (ECONNREFUSED of a connected socket). The process is gone
// when no path is left: one alone may just not be open yet, or any more. A kernel
// may be slow to take a dead process's sockets away, and refuse only after the
// silence was suspected; a path that was never heard says nothing even then.
func (d *Detector) Refuse(now time.Duration, pathID int) {
	d.counts.Refused++
	p := &d.paths[pathID]
	switch {
	case !p.up && p.fell && d.state == suspected:
		d.state, p.refused = down, true
		d.emit(Event{Kind: ProcessDown, Path: pathID, Silence: now - d.heardAt, Word: d.word, Boot: d.boot})
		return
	case !p.up:
		return
	}
	p.up, p.refused = false, true
	d.emit(Event{Kind: PathDown, Path: pathID, Silence: now - p.heardAt})
	for i := range d.cfg.Paths {
		if d.paths[i].up {
			return
		}
	}
	d.fall(now)
}

// Turn judges the silence. It is called after everything that has arrived was
// received, at least once in an interval, and at [Detector.Due].
func (d *Detector) Turn(now time.Duration) {
	gap := now - d.turned
	d.turned = now
	if gap > d.cfg.Profile.PauseLimit() {
		d.paused(now, gap)
	}
	pace, up, doubt := d.pace(), 0, false
	for i := range d.cfg.Paths {
		p := &d.paths[i]
		silence := now - p.heardAt
		if p.up && silence >= pace.Silence() {
			p.up, p.fell = false, true
			d.emit(Event{Kind: PathDown, Path: i, Silence: silence})
		}
		if p.up {
			up++
		}
		// A path on which nobody hears us is in doubt too: it may be us that is cut off.
		doubt = doubt || !p.up || p.deaf || silence >= pace.Doubt()
	}
	if d.state == unknown {
		return
	}
	d.doubt(now, doubt)
	switch {
	case d.state == alive && up == 0 && d.over(now):
		d.fall(now)
	case d.state == suspected && d.severedNow(): // carrier may be told late
		d.state = severed
		d.emit(Event{Kind: Severed, Silence: now - d.heardAt, Word: d.word, Boot: d.boot})
	}
}

// doubt tells when some path falls silent, and again when all have: what was
// answered before that says nothing about now.
func (d *Detector) doubt(now time.Duration, some bool) {
	all := some && now-d.heardAt >= d.pace().Doubt()
	if some && (!d.doubted || all && !d.quieting) {
		d.emit(Event{Kind: Doubted, Silence: now - d.heardAt})
	}
	if !some && d.doubted {
		d.emit(Event{Kind: Calm})
	}
	d.doubted, d.quieting = some, all
}

// paused throws away the silence across a pause of our own; what was silence
// before it still is.
func (d *Detector) paused(now, gap time.Duration) {
	d.counts.Pauses++
	d.counts.LongestPause = max(d.counts.LongestPause, gap)
	d.heardAt = min(now, d.heardAt+gap)
	for i := range d.paths {
		if p := &d.paths[i]; p.up {
			p.heardAt = min(now, p.heardAt+gap)
		}
	}
	d.emit(Event{Kind: Paused, Silence: gap})
}

// Rewire changes the paths without a break: path i is what path from[i] was, or
// a new one if that is negative. The other node need not notice.
func (d *Detector) Rewire(from []int) {
	was := d.paths
	d.paths = [MaxPaths]path{}
	d.cfg.Paths = min(len(from), MaxPaths)
	for i := range d.cfg.Paths {
		if from[i] >= 0 && from[i] < MaxPaths {
			d.paths[i] = was[from[i]]
		}
	}
}

// Due is when Turn has something to judge next, never before now.
func (d *Detector) Due(now time.Duration) time.Duration {
	pace := d.pace()
	due := now + d.cfg.Profile.Interval
	if d.state == alive {
		due = min(due, d.heardAt+pace.Silence()) // no path may be up
	}
	for i := range d.cfg.Paths {
		p := &d.paths[i]
		if !p.up {
			continue
		}
		if at := p.heardAt + pace.Doubt(); at > now {
			due = min(due, at)
		}
		due = min(due, p.heardAt+pace.Silence())
	}
	return max(due, now)
}
