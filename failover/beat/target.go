package beat

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"dyad/failover/pulse"
	"dyad/neighbor"
)

// defendEvery bounds how often a claimed address is defended.
const defendEvery = 5 * time.Millisecond

// target is one address on the wire, with its frames made in advance.
type target struct {
	Target
	seg   int
	owner neighbor.MAC // zero while it was not seen
	told  bool         // the agent knows that we hold it
	owed  bool         // it is to be given back as soon as its owner is seen

	ask    []byte
	take   [2][]byte
	give   [2][]byte // nil while the owner was not seen
	guard  [2][]byte // our own address is here
	guards time.Duration
}

// makeTargets makes the taker and the list of segments; openSegments opens them.
func (l *loop) makeTargets(now time.Duration) {
	classes := make([]pulse.Class, len(l.setup.Targets))
	for i, t := range l.setup.Targets {
		classes[i] = t.Class
		seg := -1
		for j := range l.segs {
			if l.segs[j].name == t.Interface {
				seg = j
			}
		}
		if seg < 0 {
			seg = len(l.segs)
			l.segs = append(l.segs, segment{name: t.Interface, arp: -1, ndp: -1})
		}
		l.targets = append(l.targets, target{Target: t, seg: seg})
	}
	if l.targets == nil {
		l.targets = []target{} // made, though there are none
	}
	l.taker = pulse.NewTaker(classes)
	for i := range classes {
		l.taker.Open(now, i, false)
	}
	l.taker.Arm(now, l.feed.Armed && !l.hung)
}

// maxOpening bounds the segments that are being opened; beyond it they wait for
// the next attempt.
const maxOpening = 16

// openSegments has every segment opened that is not, and not being opened yet.
func (l *loop) openSegments() {
	opening := 0
	for j := range l.segs {
		if l.segs[j].opening {
			opening++
		}
	}
	for j := range l.segs {
		s := &l.segs[j]
		if s.arp >= 0 || s.ndp >= 0 || s.opening || opening >= maxOpening {
			continue
		}
		v4, v6 := false, false
		for _, t := range l.targets {
			v4 = v4 || t.seg == j && t.Address.Is4()
			v6 = v6 || t.seg == j && !t.Address.Is4()
		}
		s.opening = true
		opening++
		name, serial := s.name, l.serial
		l.work.Go(func() {
			got, err := openSegment(name, v4, v6)
			got.err, got.serial = err, serial
			l.opened <- got
		})
	}
}

// takeOpened takes the segments that have been opened meanwhile.
func (l *loop) takeOpened(now time.Duration) {
	for {
		var got segment
		select {
		case got = <-l.opened:
		default:
			return
		}
		if got.serial != l.serial { // for targets of an earlier setup
			l.closeSegment(got)
			continue
		}
		for j := range l.segs {
			s := &l.segs[j]
			if s.name != got.name {
				continue
			}
			got.told = l.couldNot(now, s.name, s.told, got.err)
			*s = got
			for i := range l.targets {
				if got.err == nil && l.targets[i].seg == j {
					l.targets[i].prepare(s.mac)
					l.taker.Open(now, i, true)
					l.send(i, l.targets[i].ask) // learn who owns it
				}
			}
		}
		l.rebuildPolls()
	}
}

// closeSegment closes a segment in the background.
func (l *loop) closeSegment(s segment) {
	if s.arp >= 0 || s.ndp >= 0 {
		l.work.Go(s.close)
	}
}

func (t *target) prepare(mac neighbor.MAC) {
	t.ask = neighbor.Question(mac, t.Own, neighbor.MAC{}, t.Address)
	t.take = [2][]byte{neighbor.AnnounceRequest(mac, mac, t.Address), neighbor.AnnounceReply(mac, mac, t.Address)}
	t.guard = [2][]byte{neighbor.AnnounceRequest(mac, mac, t.Own), neighbor.AnnounceReply(mac, mac, t.Own)}
}

func (l *loop) closeTargets() {
	for _, s := range l.segs {
		l.closeSegment(s)
	}
	l.segs, l.targets = nil, nil
	l.serial++
}

// giveAll gives every held address back, before the targets change.
func (l *loop) giveAll(now time.Duration) {
	if l.taker != nil {
		l.taker.Calm(now)
		l.act(now)
	}
}

func (l *loop) send(i int, frame []byte) {
	t := &l.targets[i]
	if fd := l.segs[t.seg].fd(t.Address); fd >= 0 && frame != nil {
		_, _ = write(fd, frame) // lost frames are repeated
	}
}

// moved notes that a next hop has moved.
func (l *loop) moved(kind string, t *target) {
	l.later = append(l.later, Report{Kind: kind, At: time.Now().UnixNano(), Address: t.Address, Interface: t.Interface})
}

func (l *loop) tellLater() {
	for _, r := range l.later {
		l.report(r)
	}
	l.later = l.later[:0]
}

// act sends what the taker wants, takeovers first.
func (l *loop) act(now time.Duration) {
	for _, a := range l.taker.Actions() {
		t := &l.targets[a.Target]
		switch a.Do {
		case pulse.Ask:
			l.send(a.Target, t.ask)
		case pulse.Take:
			l.send(a.Target, t.take[0])
			l.send(a.Target, t.take[1])
			t.owed = false
			if !t.told {
				t.told = true
				l.moved(reportTook, t)
			}
		case pulse.Give:
			l.giveBack(a.Target)
			if t.told {
				t.told = false
				l.moved(reportGave, t)
			}
		}
	}
	events := l.taker.Events()
	for i := range events {
		switch events[i].Kind {
		case pulse.GatewayDead:
			l.isolated = true
		case pulse.GatewayAlive:
			l.isolated = false
		}
		l.later = append(l.later, Report{Kind: events[i].Kind.String(), At: time.Now().UnixNano()})
	}
}

// drainSegment reads what others say on a segment.
func (l *loop) drainSegment(now time.Duration, j, fd int) {
	for range maxDrain {
		if fd < 0 {
			return
		}
		n, err := read(fd, l.buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			if brokenSocket(err) {
				l.closeSegment(l.segs[j])
				l.segs[j].arp, l.segs[j].ndp = -1, -1
				for i := range l.targets {
					if l.targets[i].seg == j {
						l.taker.Open(now, i, false)
					}
				}
				l.retryAt = now + retryEvery
				l.rebuildPolls()
			}
			return
		}
		if m, ok := neighbor.Parse(l.buf[:n]); ok && m.Source != l.segs[j].mac {
			l.listen(now, j, m)
		}
	}
}

// listen takes one message of another station.
func (l *loop) listen(now time.Duration, j int, m neighbor.Message) {
	mac := l.segs[j].mac
	for i := range l.targets {
		t := &l.targets[i]
		if t.seg != j {
			continue
		}
		if m.Claim && m.Address == t.Address && m.MAC != mac {
			l.learn(t, m.MAC, mac)
			if t.owed {
				l.giveBack(i)
			}
			l.taker.Claim(now, i)
			l.act(now)
		}
		if t.Class != pulse.Hop {
			continue
		}
		if m.Claim && m.Address == t.Own && m.MAC != mac {
			l.defend(now, i)
		}
		if m.Asks && m.Target == t.Address && l.taker.Held(i) {
			l.send(i, neighbor.Answer(mac, mac, t.Address, m.MAC, m.Address))
		}
	}
}

// giveBack says that the address of target i is at its owner's. Who that is was
// never seen if the other node came after this one; then it is asked.
func (l *loop) giveBack(i int) {
	t := &l.targets[i]
	t.owed = t.give[0] == nil
	if t.owed {
		l.send(i, t.ask)
		return
	}
	l.send(i, t.give[0])
	l.send(i, t.give[1])
}

// learn remembers who owns an address, to be able to say so.
func (l *loop) learn(t *target, owner, mac neighbor.MAC) {
	if t.owner == owner {
		return
	}
	t.owner = owner
	t.give = [2][]byte{neighbor.AnnounceRequest(mac, owner, t.Address), neighbor.AnnounceReply(mac, owner, t.Address)}
}

// defend says that our own address is here: somebody claims it, or the other
// node says that it does not hear us.
func (l *loop) defend(now time.Duration, i int) {
	t := &l.targets[i]
	if t.Class != pulse.Hop || now-t.guards < defendEvery && t.guards != 0 {
		return
	}
	t.guards = now
	l.send(i, t.guard[0])
	l.send(i, t.guard[1])
	l.report(Report{Kind: reportDefended, Address: t.Own, Interface: t.Interface})
}
