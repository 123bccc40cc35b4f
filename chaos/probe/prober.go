package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos"
)

// Target is one address to probe.
type Target struct {
	Address netip.Addr
	Service string
	// Flows is the number of source ports, at least 1. Each is probed at the
	// full rate.
	Flows int
}

// Config of a prober.
type Config struct {
	// Do runs a function where sockets should be opened: inside a network
	// namespace. Nil runs it where the caller is.
	Do      func(func() error) error
	Targets []Target
	Port    uint16
	Hz      int // probes a second to each address and flow
}

const (
	// answerWithin is how long an answer may take; after it the probe is lost.
	answerWithin = time.Second
	// maxSamples bounds the memory of one run; at the bound it stops sending.
	maxSamples = 8 << 20
)

// Prober sends probes until it is stopped.
type Prober struct {
	start    time.Time
	interval time.Duration
	streams  []*stream
	run      uint64
	stop     context.CancelFunc
	senders  sync.WaitGroup
	readers  sync.WaitGroup

	mu       sync.Mutex
	maxPause time.Duration
	sendErr  string
}

type stream struct {
	target Target
	flow   int
	conn   *net.UDPConn
	to     netip.AddrPort

	mu      sync.Mutex
	samples []chaos.Sample // by seq
	// inRow counts the newest answers without a loss between them.
	inRow  int
	lastID uint64 // seq of the newest answer
	from   string // who sent the newest answer
}

// Result is everything a run saw.
type Result struct {
	Start   time.Time
	Streams []chaos.Stream
	// MaxPause is the longest time that the prober itself was late.
	MaxPause time.Duration
	// SendError is the newest error of sending, empty if there was none.
	SendError string
}

// Start begins to probe. Stop it with [Prober.Stop].
func Start(ctx context.Context, c Config) (*Prober, error) {
	if c.Hz < chaos.MinProbeHz || c.Hz > chaos.MaxProbeHz {
		return nil, fmt.Errorf("probe rate %d is outside %d–%d a second", c.Hz, chaos.MinProbeHz, chaos.MaxProbeHz)
	}
	if c.Do == nil {
		c.Do = func(f func() error) error { return f() }
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	p := &Prober{interval: time.Second / time.Duration(c.Hz), run: binary.BigEndian.Uint64(id[:])}
	if err := c.Do(func() error { return p.open(c) }); err != nil {
		return nil, errors.Join(err, p.close())
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.start = time.Now()
	for i, s := range p.streams {
		p.readers.Go(func() { p.read(uint32(i), s) })
	}
	p.senders.Go(func() { p.send(ctx) })
	return p, nil
}

func (p *Prober) open(c Config) error {
	for _, t := range c.Targets {
		for flow := range max(t.Flows, 1) {
			network := "udp4"
			if t.Address.Is6() {
				network = "udp6"
			}
			conn, err := net.ListenUDP(network, nil)
			if err != nil {
				return fmt.Errorf("open a socket to probe %s: %w", t.Address, err)
			}
			if raw, err := conn.SyscallConn(); err == nil {
				_ = raw.Control(func(fd uintptr) { growBuffers(int(fd)) })
			}
			p.streams = append(p.streams, &stream{
				target: t, flow: flow, conn: conn, to: netip.AddrPortFrom(t.Address, c.Port),
			})
		}
	}
	return nil
}

func (p *Prober) close() error {
	var errs []error
	for _, s := range p.streams {
		errs = append(errs, s.conn.Close())
	}
	return errors.Join(errs...)
}

// hurry asks for the sending thread to run as soon as it is due, before
// everything of normal priority: it uses a few percent of one CPU, and what it
// does not send in time cannot be measured. Without the right to it, it runs at
// the normal priority.
func hurry() {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}, 0)
	if err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10)
	}
}

// send keeps an absolute schedule on a thread of its own: Go's timers share the
// network poller and may be a millisecond late. A tick that is late by a whole
// interval was not sent; it is remembered as such and not made up for, as a
// burst would measure something else.
func (p *Prober) send(ctx context.Context) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	hurry()
	buf := make([]byte, 0, probeSize)
	bound := maxSamples / max(len(p.streams), 1)
	for tick := 0; tick < bound && ctx.Err() == nil; tick++ {
		due := time.Duration(tick) * p.interval
		sleepUntil(p.start.Add(due))
		late := time.Since(p.start) - due
		if skip := int(late / p.interval); skip > 0 {
			skip = min(skip, bound-tick)
			p.skipped(due, skip, late)
			tick += skip - 1
			continue
		}
		for i, s := range p.streams {
			buf = packet{stream: uint32(i), run: p.run, seq: uint64(tick)}.append(buf[:0])
			p.sendOne(s, buf)
		}
	}
}

func (p *Prober) skipped(due time.Duration, n int, late time.Duration) {
	p.mu.Lock()
	p.maxPause = max(p.maxPause, late)
	p.mu.Unlock()
	for _, s := range p.streams {
		s.mu.Lock()
		for i := range n {
			s.samples = append(s.samples, chaos.Sample{
				Seq: uint64(len(s.samples)), Sent: due + time.Duration(i)*p.interval, Outcome: chaos.Unsent,
			})
		}
		s.mu.Unlock()
	}
}

func (p *Prober) sendOne(s *stream, buf []byte) {
	s.mu.Lock()
	// Recorded before it is sent: the answer may be faster than we are.
	s.samples = append(s.samples, chaos.Sample{
		Seq: uint64(len(s.samples)), Sent: time.Since(p.start), Outcome: chaos.Lost,
	})
	s.mu.Unlock()
	if _, err := s.conn.WriteToUDPAddrPort(buf, s.to); err != nil {
		p.mu.Lock()
		p.sendErr = err.Error()
		p.mu.Unlock()
	}
}

// sleepUntil sleeps on the kernel's clock, not on the runtime's timers.
func sleepUntil(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		ts := unix.NsecToTimespec(int64(d))
		if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
			time.Sleep(d) // a kernel without it
		}
	}
}

func (p *Prober) read(id uint32, s *stream) {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		at := time.Since(p.start)
		k, name, err := parse(buf[:n])
		// An answer from another address than was asked is no answer: a
		// client's socket would not take it either.
		if err != nil || k.run != p.run || k.stream != id || from.Addr().Unmap() != s.target.Address {
			continue
		}
		s.answered(k.seq, at, string(name))
	}
}

func (s *stream) answered(seq uint64, at time.Duration, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq >= uint64(len(s.samples)) {
		return
	}
	sm := &s.samples[seq]
	if sm.Outcome != chaos.Lost || at-sm.Sent > answerWithin {
		return // answered twice, or too late
	}
	sm.Outcome, sm.At = chaos.Answered, at
	switch {
	case s.inRow > 0 && seq < s.lastID: // overtaken
	case s.gapless(seq):
		s.inRow++
	default:
		s.inRow = 1
	}
	s.lastID, s.from = max(seq, s.lastID), name
}

// gapless tells whether nothing was lost between the newest answer and seq.
func (s *stream) gapless(seq uint64) bool {
	for i := s.lastID + 1; i < seq; i++ {
		if s.samples[i].Outcome == chaos.Lost {
			return false
		}
	}
	return true
}

// Now is what one address looks like at the moment.
type Now struct {
	Address netip.Addr
	// InRow is the number of newest probes answered without a gap, the least
	// of all flows; 0 if the newest answer is older than staleAfter.
	InRow int
	// Silence is the time since the newest answered probe was sent.
	Silence time.Duration
	// From names who answers, by flow.
	From []string
}

// staleAfter is how old the newest answer of a well address may be.
const staleAfter = 200 * time.Millisecond

// Now says how each address does, in the order of the targets.
func (p *Prober) Now() []Now {
	var out []Now
	now := time.Since(p.start)
	for _, s := range p.streams {
		s.mu.Lock()
		one := Now{Address: s.target.Address, InRow: s.inRow, Silence: now, From: []string{s.from}}
		if s.inRow > 0 {
			one.Silence = now - s.samples[s.lastID].Sent
		}
		s.mu.Unlock()
		if one.Silence > staleAfter+2*p.interval {
			one.InRow = 0
		}
		if i := len(out) - 1; i >= 0 && out[i].Address == one.Address {
			out[i].InRow = min(out[i].InRow, one.InRow)
			out[i].Silence = max(out[i].Silence, one.Silence)
			out[i].From = append(out[i].From, one.From...)
			continue
		}
		out = append(out, one)
	}
	return out
}

// Halt ends sending; answers under way still count. [Prober.Stop] follows.
func (p *Prober) Halt() {
	p.stop()
	p.senders.Wait()
}

// Stop ends sending, gives the answers under way their time, and returns what
// was seen.
func (p *Prober) Stop() Result {
	p.Halt()
	wait := time.NewTimer(answerWithin)
	<-wait.C
	_ = p.close()
	p.readers.Wait()
	r := Result{Start: p.start, MaxPause: p.maxPause, SendError: p.sendErr}
	for _, s := range p.streams {
		r.Streams = append(r.Streams, chaos.Stream{
			Address: s.target.Address, Service: s.target.Service, Flow: s.flow, Samples: s.samples,
		})
	}
	return r
}
