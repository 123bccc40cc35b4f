package etcdlog_test

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// proxy stands between a client and the store, and can cut what is between.
type proxy struct {
	addr, to string

	mu    sync.Mutex
	conns map[net.Conn]bool
	after []byte // once a request contains it, no answer passes
	deaf  bool
	over  bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			if p.keep(in, out) {
				wg.Go(func() { p.pass(in, out, p.request) })
				wg.Go(func() { p.pass(out, in, p.answer) })
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		p.cut()
		wg.Wait()
	})
	return p
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.over {
			c.Close()
		}
		p.conns[c] = true
	}
	return !p.over
}

// pass copies from one side to the other while allowed says so.
func (p *proxy) pass(from, to net.Conn, allowed func([]byte) bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && allowed(buf[:n]) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) request(b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = p.deaf || p.after != nil && bytes.Contains(b, p.after)
	return true
}

func (p *proxy) answer([]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deaf
}

// deafAfterRequest swallows all answers from the moment a request with s in it
// passes, until cut.
func (p *proxy) deafAfterRequest(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = []byte(s)
}

// cut ends all connections. New ones pass.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	p.conns, p.after, p.deaf = map[net.Conn]bool{}, nil, false
}
