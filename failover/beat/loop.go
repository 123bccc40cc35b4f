package beat

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dyad/failover/pulse"
)

const (
	// retryEvery is the pause between attempts to open what can't be opened: an
	// interface may not be there yet.
	retryEvery = time.Second
	// countsEvery is how often the agent is told the counters.
	countsEvery = 5 * time.Second
	// maxDrain bounds the datagrams taken from one socket in one turn, so that a
	// flood can't keep the loop from sending.
	maxDrain = 64
	// datagramLen has room for a heartbeat of a later version, and for a frame.
	datagramLen = 2048
	// lastWords is how often the end is said, as a datagram may be lost.
	lastWords = 3
)

// loop is the process: one goroutine on one thread. At rest it allocates nothing.
type loop struct {
	start   time.Time
	in      int
	out     outbox
	input   []byte // of the agent, not yet a whole frame
	setup   Setup
	pending *Setup // to be applied when the other node is heard again

	det     *pulse.Detector // nil while there is no other node
	taker   *pulse.Taker
	paths   []pathSocket
	segs    []segment
	serial  int // of the targets and segments
	targets []target
	retryAt time.Duration // zero: everything is open
	// Packet sockets take tens of milliseconds to open and to close (the kernel
	// waits for a grace period), so others do that.
	work   sync.WaitGroup
	opened chan segment

	feed     Feed
	fedAt    time.Duration
	hung     bool
	isolated bool
	nextBeat time.Duration
	countsAt time.Duration
	later    []Report // what acting led to in this turn, told after what led to it

	links    links
	routers  bool // one is on a link of ours
	severed  bool // isolated, and there is no such router to tell when it ends
	polls    []unix.PollFd
	resting  bool  // datagrams on paths were not asked for
	wall     int64 // this turn by the host's clock, in Unix nanoseconds
	received *receiver
	buf      [datagramLen]byte
	beat     [pulse.Size]byte
}

type pathSocket struct {
	fd     int  // -1 while it can't be opened
	stamps bool // the kernel tells when a datagram came
	told   string
	readAt time.Duration // when it was last empty
}

func newLoop(in, out int) *loop {
	l := &loop{start: time.Now(), in: in, out: outbox{fd: out}, opened: make(chan segment, maxOpening), received: newReceiver(), links: links{fd: -1}}
	l.rebuildPolls()
	return l
}

// now is the time since the start, by a clock that never goes back. It notes the
// host's time beside it.
func (l *loop) now() time.Duration {
	t := time.Now()
	l.wall = t.UnixNano()
	return t.Sub(l.start)
}

// errAgentGone: the agent's end of the pipe is closed.
var errAgentGone = errors.New("the agent is gone")

// run works until the agent says goodbye (nil) or is gone (errAgentGone).
func (l *loop) run() error {
	for {
		if err := l.wait(l.now()); err != nil {
			return err
		}
		now := l.now()
		bye, err := l.hearAgent(now)
		switch {
		case errors.Is(err, io.EOF):
			l.say(pulse.FlagGone)
			return errAgentGone
		case err != nil:
			return err
		case bye:
			l.say(pulse.FlagBye)
			return nil
		}
		l.hearLinks(now)
		l.drain(now)
		l.turn(now)
	}
}

// wait sleeps until something arrives or is due.
func (l *loop) wait(now time.Duration) error {
	due := now + retryEvery
	if l.det != nil {
		due = min(due, l.nextBeat, l.det.Due(now))
		if at, ok := l.taker.Due(); ok {
			due = min(due, at)
		}
	}
	l.polls[pollOut].Events = 0
	if l.out.waits() {
		l.polls[pollOut].Events = unix.POLLOUT
	}
	l.resting = l.restful()
	if l.resting {
		l.pollPathsFor(0)
	} else {
		l.pollPathsFor(unix.POLLIN)
	}
	err := sleep(l.polls, due-now)
	if errors.Is(err, unix.EINTR) {
		for i := range l.polls {
			l.polls[i].Revents = 0
		}
		return nil
	}
	return err
}

// Places in polls: the agent's two pipes, the kernel's word of interfaces, the
// paths, two for each segment.
const (
	pollIn = iota
	pollOut
	pollLinks
	pollPaths
)

func (l *loop) pollSegment(j int) int { return pollPaths + len(l.paths) + 2*j }

// rebuildPolls lists what can wake the loop. What is not open has its place too;
// the kernel passes over a negative descriptor.
func (l *loop) rebuildPolls() {
	add := func(fd int, events int16) {
		l.polls = append(l.polls, unix.PollFd{Fd: int32(fd), Events: events})
	}
	l.polls = l.polls[:0]
	add(l.in, unix.POLLIN)
	add(l.out.fd, 0)
	add(l.links.fd, unix.POLLIN)
	for _, p := range l.paths {
		add(p.fd, unix.POLLIN)
	}
	for _, s := range l.segs {
		add(s.arp, unix.POLLIN)
		add(s.ndp, unix.POLLIN)
	}
}

// hearAgent takes what the agent has sent.
func (l *loop) hearAgent(now time.Duration) (bye bool, err error) {
	if l.polls[pollIn].Revents == 0 {
		return false, nil
	}
	for {
		n, err := read(l.in, l.buf[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, err
		case n == 0:
			return false, io.EOF
		}
		l.input = append(l.input, l.buf[:n]...)
		rest := l.input
		for {
			var kind byte
			var payload []byte
			if kind, payload, rest, err = nextFrame(rest); err != nil {
				return false, err
			}
			if kind == 0 {
				break
			}
			if kind == frameBye {
				return true, nil
			}
			if err := l.frame(now, kind, payload); err != nil {
				return false, err
			}
		}
		l.input = l.input[:copy(l.input, rest)]
	}
}

func (l *loop) frame(now time.Duration, kind byte, payload []byte) error {
	switch kind {
	case frameFeed:
		f, ok := decodeFeed(payload)
		if !ok {
			return errFrame
		}
		l.feed, l.fedAt, l.hung = f, now, false
		l.setReach()
		if l.taker != nil {
			l.taker.Arm(now, f.Armed)
			l.act(now)
		}
		return nil
	case frameSetup:
		return l.order(now, payload)
	}
	return errFrame
}

// turn judges, acts and beats.
func (l *loop) turn(now time.Duration) {
	l.takeOpened(now)
	if l.retryAt != 0 && now >= l.retryAt {
		l.open(now)
	}
	if l.det == nil {
		l.out.flush()
		return
	}
	if !l.hung && now-l.fedAt > FeedBound {
		l.hung = true
		l.taker.Arm(now, false)
	}
	l.det.Turn(now)
	l.settle(now)
	l.taker.Turn(now)
	l.act(now)
	if now >= l.nextBeat {
		l.beatAll(now, 0)
		l.settle(now) // a refusal
		l.nextBeat += l.setup.Interval
		if l.nextBeat <= now { // late by more than an interval: no burst
			l.nextBeat = now + l.setup.Interval
		}
	}
	if now >= l.countsAt {
		l.countsAt = now + countsEvery
		c := l.det.Counts()
		l.report(Report{Kind: reportCounts, Counts: &c})
	}
	l.tellLater()
	if l.pending != nil && !l.det.Quiet() {
		s := *l.pending
		l.pending = nil
		l.apply(now, s)
	}
	l.out.flush()
}

// settle carries what the detector saw to the wire, and then to the agent.
func (l *loop) settle(now time.Duration) {
	events := l.det.Events()
	if len(events) == 0 {
		return
	}
	seen, defend := time.Now().UnixNano(), false
	for _, e := range events {
		switch e.Kind {
		case pulse.Doubted:
			l.taker.Doubt(now)
		case pulse.Calm, pulse.Left:
			l.taker.Calm(now)
		case pulse.Suspected:
			l.taker.Quiet(now)
		case pulse.ProcessDown:
			l.taker.Refused(now)
		case pulse.Severed:
			l.sever()
		case pulse.Heard, pulse.Said:
			if e.Kind == pulse.Heard {
				l.taker.Heard(now)
				l.rejoin()
			}
			l.taker.Cut(now, e.Word.Flags&pulse.FlagIsolated != 0)
			defend = defend || e.Word.Flags&pulse.FlagSuspects != 0
		}
	}
	l.act(now)
	if defend {
		for i := range l.targets {
			l.defend(now, i)
		}
	}
	for i := range events {
		l.tell(seen, &events[i])
	}
}

// beatAll sends a heartbeat on every path.
func (l *loop) beatAll(now time.Duration, more pulse.Flags) {
	w := l.feed.Word
	w.Flags |= more
	if l.hung {
		w.Flags |= pulse.FlagHung
	}
	if l.isolated {
		w.Flags |= pulse.FlagIsolated
	}
	for i := range l.paths {
		if l.paths[i].fd < 0 {
			continue
		}
		b := l.det.Compose(i, w, l.beat[:])
		_, err := write(l.paths[i].fd, b)
		if refused(err) { // of an earlier one; this one was not sent
			l.det.Refuse(now, i)
			_, err = write(l.paths[i].fd, b)
		}
		if brokenSocket(err) {
			_ = unix.Close(l.paths[i].fd)
			l.paths[i].fd = -1
			l.rebuildPolls()
			l.retryAt = now + retryEvery
		}
	}
}

// say is the last act: the end, on every path.
func (l *loop) say(f pulse.Flags) {
	if l.det == nil {
		return
	}
	for range lastWords {
		l.beatAll(l.now(), f)
	}
}

// brokenSocket tells whether a socket has to be opened anew: its address or its
// interface is gone. A network that is down comes back by itself.
func brokenSocket(err error) bool {
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ECONNREFUSED),
		errors.Is(err, unix.EPERM), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return false
	}
	return true
}
