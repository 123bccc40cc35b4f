package server

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// limits are token buckets, one for each held cluster and one, named "", for all
// others.
type limits struct {
	rate, burst float64
	mu          sync.Mutex
	buckets     map[string]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimits(rate, burst int) *limits {
	return &limits{rate: float64(rate), burst: float64(burst), buckets: map[string]bucket{}}
}

// take takes one token and tells whether there was one.
func (l *limits) take(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[name]
	if !ok {
		b = bucket{tokens: l.burst, at: now}
	}
	if d := now.Sub(b.at); d > 0 { // a clock that is set back gives nothing
		b.tokens = min(l.burst, b.tokens+d.Seconds()*l.rate)
	}
	b.at = now
	given := b.tokens >= 1
	if given {
		b.tokens--
	}
	l.buckets[name] = b
	return given
}

// limitListener bounds the open connections: of all clients, by not accepting
// more, and of one address, by closing what is too many.
type limitListener struct {
	net.Listener
	slots   chan struct{}
	closed  chan struct{}
	once    sync.Once
	perAddr int
	mu      sync.Mutex
	open    map[netip.Addr]int
}

func limit(ln net.Listener, conns, perAddr int) net.Listener {
	return &limitListener{
		Listener: ln, slots: make(chan struct{}, conns), closed: make(chan struct{}), perAddr: perAddr, open: map[netip.Addr]int{},
	}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
		c, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		addr := addrOf(c)
		if !l.enter(addr) {
			_ = c.Close()
			<-l.slots
			continue
		}
		return &limitedConn{Conn: c, leave: func() { l.leave(addr) }}, nil
	}
}

// Close implements net.Listener.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func addrOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

func (l *limitListener) enter(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[a] >= l.perAddr {
		return false
	}
	l.open[a]++
	return true
}

func (l *limitListener) leave(a netip.Addr) {
	l.mu.Lock()
	if l.open[a]--; l.open[a] <= 0 {
		delete(l.open, a)
	}
	l.mu.Unlock()
	<-l.slots
}

type limitedConn struct {
	net.Conn
	once  sync.Once
	leave func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.leave)
	return err
}
