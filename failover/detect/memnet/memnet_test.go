package memnet

import (
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var (
	atA = netip.MustParseAddrPort("10.0.0.1:1")
	atB = netip.MustParseAddrPort("10.0.0.2:1")
)

// two runs a test over a fresh network of two nodes, and shuts them down.
func two(t *testing.T, seed uint64, f func(t *testing.T, n *Network, a, b *Transport)) {
	synctest.Test(t, func(t *testing.T) {
		n := New(seed)
		a, b := n.Join(atA), n.Join(atB)
		f(t, n, a, b)
		for _, x := range []*Transport{a, b, a} { // twice is no harm
			if err := x.Shutdown(); err != nil {
				t.Error(err)
			}
		}
	})
}

// got sends n datagrams and counts those that arrive.
func got(t *testing.T, from, to *Transport, n int) (arrived int) {
	t.Helper()
	for range n {
		if _, err := from.WriteTo([]byte("x"), to.at.String()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	for {
		select {
		case p := <-to.PacketCh():
			if p.From.String() != from.at.String() || string(p.Buf) != "x" {
				t.Fatalf("%s from %s", p.Buf, p.From)
			}
			arrived++
		default:
			return arrived
		}
	}
}

func TestDatagrams(t *testing.T) {
	two(t, 1, func(t *testing.T, n *Network, a, b *Transport) {
		steps := []struct {
			what   string
			do     func()
			ab, ba int
		}{
			{"no fault", func() {}, 10, 10},
			{"one way", func() { n.CutOneWay(atA, atB) }, 0, 10},
			{"cut", func() { n.Cut(atA, atB) }, 0, 0},
			{"healed", func() { n.Heal(atA, atB) }, 10, 10},
			{"all lost", func() { n.SetLoss(1) }, 0, 0},
			{"late", func() { n.SetLoss(0); n.SetDelay(900 * time.Millisecond) }, 10, 10},
			{"too late", func() { n.SetDelay(1100 * time.Millisecond) }, 0, 0},
		}
		for _, s := range steps {
			s.do()
			if ab, ba := got(t, a, b, 10), got(t, b, a, 10); ab != s.ab && s.what != "too late" || ba != s.ba && s.what != "too late" {
				t.Errorf("%s: %d and %d of 10 arrive", s.what, ab, ba)
			}
		}
	})
}

// The seed decides what gets lost, and a full queue loses the rest.
func TestLossIsSeeded(t *testing.T) {
	lost := map[uint64]int{}
	for _, seed := range []uint64{1, 1, 2} {
		two(t, seed, func(t *testing.T, n *Network, a, b *Transport) {
			n.SetLoss(0.5)
			k := got(t, a, b, 1000)
			if was, ok := lost[seed]; ok && was != k {
				t.Errorf("seed %d: %d and %d arrive", seed, was, k)
			}
			lost[seed] = k
			n.SetLoss(0)
			if k := got(t, a, b, 2*maxQueue); k != maxQueue {
				t.Errorf("%d of %d fit into the queue", k, maxQueue)
			}
		})
	}
	if lost[1] == lost[2] || lost[1] < 400 || lost[1] > 600 {
		t.Errorf("loss of a half: %v of 1000 arrive", lost)
	}
}

func TestStreams(t *testing.T) {
	two(t, 1, func(t *testing.T, n *Network, a, b *Transport) {
		c, err := a.DialTimeout(atB.String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		s := <-b.StreamCh()
		if s.RemoteAddr().String() != atA.String() {
			t.Errorf("from %s", s.RemoteAddr())
		}
		go func() { _, _ = c.Write([]byte("hello")) }()
		buf := make([]byte, 5)
		if _, err := io.ReadFull(s, buf); err != nil || string(buf) != "hello" {
			t.Errorf("%q, %v", buf, err)
		}
		n.Cut(atA, atB)
		if _, err := c.Write([]byte("into the void")); err != nil {
			t.Errorf("the kernel would have taken it: %v", err)
		}
		n.Heal(atA, atB)
		_ = s.SetReadDeadline(time.Now().Add(time.Second))
		if k, err := s.Read(buf); err == nil {
			t.Errorf("what was written during the cut arrived: %q", buf[:k])
		}
		if err := b.Shutdown(); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(buf); err == nil {
			t.Error("the stream of a dead node goes on")
		}
		from := time.Now()
		if _, err := a.DialTimeout(atB.String(), time.Second); err == nil || time.Since(from) != time.Second {
			t.Errorf("a dial to a dead node: %v after %s", err, time.Since(from))
		}
	})
}

// A writer that waits for its reader does not wait for a dead one.
func TestDeathFreesWriters(t *testing.T) {
	two(t, 1, func(t *testing.T, _ *Network, a, b *Transport) {
		c, err := a.DialTimeout(atB.String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte("nobody reads this"))
			done <- err
		}()
		synctest.Wait()
		_ = b.Shutdown()
		synctest.Wait()
		select {
		case err := <-done:
			if err == nil {
				t.Error("a write nobody read succeeded")
			}
		default:
			t.Error("the writer hangs")
		}
		if _, err := b.WriteTo([]byte("x"), atA.String()); err == nil {
			t.Error("a dead node speaks")
		}
	})
}
