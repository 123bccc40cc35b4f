package beat

import (
	"errors"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many datagrams one call takes from a socket. At rest there is one.
	batch = 4
	// controlLen has room for the time of arrival, in bytes.
	controlLen = 64
	// restfulUpTo is the longest interval at which datagrams may wait for the next
	// heartbeat of our own; see [loop.restful].
	restfulUpTo = 5 * time.Millisecond
)

// receiver has room for a batch of datagrams, each with its time of arrival. It
// must not be copied once made.
type receiver struct {
	heads    [batch]mmsghdr
	vectors  [batch]unix.Iovec
	buffers  [batch][datagramLen]byte
	controls [batch][controlLen]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	head unix.Msghdr
	n    uint32
}

func newReceiver() *receiver {
	r := &receiver{}
	for i := range r.heads {
		r.vectors[i].Base = &r.buffers[i][0]
		r.vectors[i].SetLen(datagramLen)
		r.heads[i].head.Iov = &r.vectors[i]
		r.heads[i].head.SetIovlen(1)
		r.heads[i].head.Control = &r.controls[i][0]
	}
	return r
}

// take takes up to a batch of datagrams from a socket that does not block.
func (r *receiver) take(fd int) (int, error) {
	for i := range r.heads {
		r.heads[i].head.SetControllen(controlLen)
	}
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.heads)), batch, 0, 0, 0)
	return result(n, e)
}

func (r *receiver) datagram(i int) []byte { return r.buffers[i][:r.heads[i].n] }

// arrived is when the kernel had datagram i, in Unix nanoseconds by the host's
// clock; 0 if it does not say. Within a moment of the first socket that asks for
// it, it is when the datagram was read.
func (r *receiver) arrived(i int) int64 {
	c := (*unix.Cmsghdr)(unsafe.Pointer(&r.controls[i]))
	if int(r.heads[i].head.Controllen) < unix.CmsgLen(int(unsafe.Sizeof(unix.Timespec{}))) ||
		c.Level != unix.SOL_SOCKET || c.Type != unix.SCM_TIMESTAMPNS {
		return 0
	}
	return (*unix.Timespec)(unsafe.Pointer(&r.controls[i][unix.CmsgLen(0)])).Nano()
}

// restful tells whether heartbeats may wait in their sockets until the next one
// of our own is due, so that the loop wakes once for both. It is so while every
// path hears the other node, and heartbeats are frequent; the kernel keeps the
// time at which each of them came. A silence is judged in time all the same, and
// a refusal wakes the loop.
func (l *loop) restful() bool {
	if l.det == nil || !l.det.Calm() || l.setup.Interval > restfulUpTo {
		return false
	}
	for i := range l.paths {
		if l.paths[i].fd >= 0 && !l.paths[i].stamps {
			return false
		}
	}
	return true
}

// pollPathsFor has a datagram on a path wake the loop, or not.
func (l *loop) pollPathsFor(events int16) {
	for i := range l.paths {
		l.polls[pollPaths+i].Events = events
	}
}

// drain takes everything that has arrived.
//
// Invariant: it comes before the turn, which judges silence: what waited in a
// socket while the loop was late counts as heard. So what the kernel did not show
// as ready is read too when a silence is due, or when it was not asked to show it.
func (l *loop) drain(now time.Duration) {
	if l.det == nil {
		return
	}
	all := l.det.Due(now) <= now
	for i := range l.paths {
		if all || l.resting || l.ready(pollPaths+i) {
			l.drainPath(now, i)
		}
	}
	for j := range l.segs {
		at := l.pollSegment(j)
		if all || l.ready(at) {
			l.drainSegment(now, j, l.segs[j].arp)
		}
		if all || l.ready(at+1) {
			l.drainSegment(now, j, l.segs[j].ndp)
		}
	}
}

// ready tells whether the kernel has something for that place. The list may be
// newer than the last wait.
func (l *loop) ready(at int) bool { return at < len(l.polls) && l.polls[at].Revents != 0 }

// drainPath takes what has arrived on a path, and gives each datagram the time at
// which it came. The kernel tells of a refusal before it hands over what came
// earlier; last words among that explain it.
func (l *loop) drainPath(now time.Duration, i int) {
	p := &l.paths[i]
	refusals := 0
	for range maxDrain / batch {
		if p.fd < 0 {
			break
		}
		n, err := l.received.take(p.fd)
		if refused(err) {
			refusals++
			continue
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		for k := range n {
			l.det.Receive(now-l.age(now, p, k), i, l.received.datagram(k))
		}
		if n < batch { // nothing more there, or no network
			p.readAt = now
			break
		}
	}
	for range refusals {
		l.det.Refuse(now, i)
	}
}

// age is how long datagram k of the last batch has waited. It can't have come
// before the socket was last empty: then the host's clock was set meanwhile, and
// it counts as heard now.
func (l *loop) age(now time.Duration, p *pathSocket, k int) time.Duration {
	at := l.received.arrived(k)
	if at == 0 {
		return 0
	}
	age := time.Duration(l.wall - at)
	if age < 0 || age > now-p.readAt {
		return 0
	}
	return age
}
