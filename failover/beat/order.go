package beat

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dyad/failover/pulse"
)

// order takes a setup. While the other node is silent, what it would change
// waits: a new detector would know nothing of the silence.
func (l *loop) order(now time.Duration, payload []byte) error {
	var s Setup
	if err := json.Unmarshal(payload, &s); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	switch {
	case s.equal(l.setup):
		l.pending = nil
	case l.det != nil && l.det.Quiet() && s.Peer == l.setup.Peer:
		l.pending = &s
	default:
		l.apply(now, s)
	}
	return nil
}

// apply makes s the setup: sockets, detector and taker are made anew as far as
// they change. Paths that stay are not interrupted.
func (l *loop) apply(now time.Duration, s Setup) {
	same := s.sameBeat(l.setup) && l.det != nil
	if !same || !slices.Equal(s.Targets, l.setup.Targets) {
		l.giveAll(now)
		l.closeTargets()
	}
	if !same {
		l.closePaths()
		l.det, l.taker = nil, nil
	}
	was := l.setup
	l.setup = s
	switch {
	case s.Peer == "":
		l.retryAt = 0
		l.rebuildPolls()
		return
	case same:
		l.rewire(was.Paths)
	case !l.begin(now):
		l.setup = Setup{}
		return
	}
	if l.targets == nil {
		l.makeTargets(now)
	}
	l.links.refresh(unix.RTM_GETADDR)
	l.setCarrier(now)
	l.open(now)
}

// begin makes a detector that has heard nothing yet.
func (l *loop) begin(now time.Duration) bool {
	s := l.setup
	d, err := pulse.NewDetector(pulse.Config{
		Self: s.Self, Peer: s.Peer, Key: s.Key, Boot: newBoot(), Paths: len(s.Paths),
		Profile: pulse.Profile{Interval: s.Interval, Misses: s.Misses},
	}, now)
	if err != nil {
		l.report(Report{Kind: reportPathError, Path: s.Peer, Why: err.Error()})
		return false
	}
	l.det, l.paths = d, make([]pathSocket, len(s.Paths))
	for i := range l.paths {
		l.paths[i].fd = -1
	}
	l.nextBeat, l.isolated, l.severed = now, false, false
	if l.fedAt == 0 {
		l.fedAt = now // the agent has not had its turn yet
	}
	return true
}

// rewire keeps the sockets of the paths that stay.
func (l *loop) rewire(was []Path) {
	from, paths := make([]int, len(l.setup.Paths)), make([]pathSocket, len(l.setup.Paths))
	for i, p := range l.setup.Paths {
		paths[i].fd = -1
		if from[i] = slices.Index(was, p); from[i] >= 0 {
			paths[i] = l.paths[from[i]]
			l.paths[from[i]].fd = -1
		}
	}
	for i, p := range l.paths {
		if p.fd >= 0 {
			_ = unix.Close(p.fd)
			l.report(Report{Kind: pulse.PathDown.String(), Path: was[i].Name})
		}
	}
	l.det.Rewire(from)
	l.paths = paths
}

func newBoot() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return max(1, binary.BigEndian.Uint64(b[:]))
}

// open opens what is not open yet.
func (l *loop) open(now time.Duration) {
	l.retryAt = 0
	for i := range l.paths {
		p := &l.paths[i]
		if p.fd >= 0 {
			continue
		}
		fd, err := openPath(l.setup.Paths[i], l.setup.Port)
		p.fd, p.stamps, p.readAt = fd, fd >= 0 && stamps(fd), now
		p.told = l.couldNot(now, l.setup.Paths[i].Name, p.told, err)
	}
	l.openSegments()
	l.rebuildPolls()
}

// couldNot reports that something can't be opened, or can now, once each.
func (l *loop) couldNot(now time.Duration, what, told string, err error) string {
	why := ""
	if err != nil {
		why = err.Error()
		l.retryAt = now + retryEvery
	}
	if why != told {
		l.report(Report{Kind: reportPathError, Path: what, Why: why})
	}
	return why
}

func (l *loop) closePaths() {
	for _, p := range l.paths {
		if p.fd >= 0 {
			_ = unix.Close(p.fd)
		}
	}
	l.paths = nil
}

// report queues a report; it never waits.
func (l *loop) report(r Report) {
	if r.At == 0 {
		r.At = time.Now().UnixNano()
	}
	l.out.put(r)
}

// tell reports an event of the detector or the taker, seen at a time in Unix
// nanoseconds.
func (l *loop) tell(seen int64, e *pulse.Event) {
	r := Report{Kind: e.Kind.String(), At: seen, Silence: e.Silence, Boot: e.Boot}
	switch e.Kind {
	case pulse.Heard, pulse.Said, pulse.Suspected:
		w := e.Word
		r.Word = &w
	case pulse.PathUp, pulse.PathDown, pulse.Deaf, pulse.Hears, pulse.ProcessDown:
		if e.Path < len(l.setup.Paths) {
			r.Path = l.setup.Paths[e.Path].Name
		}
	case pulse.Doubted, pulse.Calm:
		return // the taker's business alone
	}
	l.report(r)
}

// outbox holds reports until the agent takes them. A hung agent takes none.
type outbox struct {
	fd      int
	waiting []byte
	dropped int
}

// maxWaiting bounds the reports that wait for the agent, in bytes; counters are
// dropped at half of it.
const maxWaiting = 256 << 10

func (o *outbox) waits() bool { return len(o.waiting) > 0 }

func (o *outbox) put(r Report) {
	if len(o.waiting) > maxWaiting || len(o.waiting) > maxWaiting/2 && r.Kind == reportCounts {
		o.dropped++
		return
	}
	b, err := json.Marshal(r)
	if err != nil {
		return // a report has no field that can't be encoded
	}
	o.waiting = append(append(o.waiting, b...), '\n')
}

func (o *outbox) flush() {
	for len(o.waiting) > 0 {
		n, err := write(o.fd, o.waiting)
		if err != nil || n <= 0 {
			return
		}
		o.waiting = o.waiting[:copy(o.waiting, o.waiting[n:])]
	}
}
