// Package memnet is a network in memory for memberlist: datagrams and streams
// between named addresses, with cuts, one-way loss and delay. It works inside a
// testing/synctest bubble, where hundreds of failovers take no time at all.
//
// A node that is shut down or cut off is a black hole: datagrams vanish, and
// dials wait for their whole timeout. What is written to a stream that was open
// before vanishes too; the stream of a node that is shut down ends.
package memnet

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// maxQueue bounds the datagrams and streams that wait at a node; what comes on
// top is lost, as on a real network.
const maxQueue = 1024

// Network connects transports. All methods may be called by several goroutines.
type Network struct {
	mu    sync.Mutex
	nodes map[string]*Transport
	cut   map[[2]string]bool // from, to
	loss  float64
	delay time.Duration
	rng   *rand.Rand
}

// New returns a network without faults. seed decides which datagrams get lost.
func New(seed uint64) *Network {
	return &Network{nodes: map[string]*Transport{}, cut: map[[2]string]bool{}, rng: rand.New(rand.NewPCG(seed, 0))}
}

// Cut stops everything between two addresses, in both directions; Heal undoes it.
func (n *Network) Cut(a, b netip.AddrPort) { n.CutOneWay(a, b); n.CutOneWay(b, a) }

// CutOneWay stops what a sends to b.
func (n *Network) CutOneWay(a, b netip.AddrPort) { n.set(a, b, true) }

// Heal restores both directions.
func (n *Network) Heal(a, b netip.AddrPort) { n.set(a, b, false); n.set(b, a, false) }

// SetLoss makes a share of all datagrams disappear, 0–1.
func (n *Network) SetLoss(share float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = share
}

// SetDelay delays every datagram.
func (n *Network) SetDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

func (n *Network) set(a, b netip.AddrPort, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{a.String(), b.String()}] = cut
}

// Join attaches a new transport at an address, in place of one that was shut
// down there.
func (n *Network) Join(at netip.AddrPort) *Transport {
	t := &Transport{
		net: n, at: at, packets: make(chan *memberlist.Packet, maxQueue), streams: make(chan net.Conn, maxQueue),
		closed: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[at.String()] = t
	return t
}

// reaches tells whether what from sends arrives at to.
func (n *Network) reaches(from, to *Transport) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[[2]string{from.at.String(), to.at.String()}] && n.nodes[to.at.String()] == to
}

// route finds who hears from at to; nil if nobody does. lose says whether a
// datagram gets lost.
func (n *Network) route(from, to string) (t *Transport, delay time.Duration, lose bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]string{from, to}] {
		return nil, 0, true
	}
	return n.nodes[to], n.delay, n.loss > 0 && n.rng.Float64() < n.loss
}

// Transport is one node's attachment; it implements memberlist.Transport.
type Transport struct {
	net     *Network
	at      netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	wg      sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // ends of streams held here; nil after Shutdown
}

var errUnreachable = errors.New("memnet: no answer")

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.at.Addr().AsSlice(), int(t.at.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *Transport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	to, delay, lose := t.net.route(t.at.String(), addr)
	if to == nil || lose {
		return now, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		return now, errUnreachable
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(t.at)}
	if delay == 0 {
		to.deliver(p)
		return now, nil
	}
	t.wg.Go(func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			to.deliver(p)
		case <-t.closed:
		}
	})
	return now, nil
}

func (t *Transport) deliver(p *memberlist.Packet) {
	p.Timestamp = time.Now()
	select {
	case <-t.closed:
	default:
		select {
		case t.packets <- p:
		default: // the queue is full: lost
		}
	}
}

// PacketCh implements memberlist.Transport.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport. Nobody answers for a node that is
// gone or cut off, so the caller waits as long as it is willing to.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, _, _ := t.net.route(t.at.String(), addr)
	back, _, _ := t.net.route(addr, t.at.String())
	if to == nil || back == nil {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.closed:
		}
		return nil, errUnreachable
	}
	a, b := net.Pipe()
	if !t.hold(a) || !to.hold(b) {
		return nil, errors.Join(errUnreachable, a.Close(), b.Close())
	}
	select {
	case to.streams <- &stream{b, to, t}:
		return &stream{a, t, to}, nil
	default:
		return nil, errors.Join(errUnreachable, (&stream{a, t, to}).Close(), (&stream{b, to, t}).Close())
	}
}

// hold notes an end of a stream, to be closed at the latest with the transport.
func (t *Transport) hold(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		return false
	}
	t.conns[c] = true
	return true
}

// StreamCh implements memberlist.Transport.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. The node is deaf and mute from then
// on: to the others it looks like a dead host.
func (t *Transport) Shutdown() error {
	t.net.mu.Lock()
	if t.net.nodes[t.at.String()] == t {
		delete(t.net.nodes, t.at.String())
	}
	t.net.mu.Unlock()
	t.mu.Lock()
	if t.conns != nil {
		close(t.closed)
	}
	for c := range t.conns {
		_ = c.Close()
	}
	t.conns = nil
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

// stream is one end of a pipe between two transports.
type stream struct {
	net.Conn
	own, other *Transport
}

// Write implements net.Conn. Without a way to the other end it succeeds, like a
// kernel that buffers what it can't deliver.
func (s *stream) Write(b []byte) (int, error) {
	if !s.own.net.reaches(s.own, s.other) {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.own.mu.Lock()
	delete(s.own.conns, s.Conn)
	s.own.mu.Unlock()
	return s.Conn.Close()
}

// RemoteAddr implements net.Conn; memberlist writes it into its log.
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.other.at) }
