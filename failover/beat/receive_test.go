package beat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/failover"
	"dyad/failover/pulse"
)

// freePort is a UDP port that nobody has.
func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// local is path i between two pulses on this host.
func local(i int, self string) Path {
	own, other := 1, 2
	if self == "b" {
		own, other = 2, 1
	}
	at := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("127.%d.0.%d", i+1, n)) }
	return Path{Name: fmt.Sprint("p", i), Local: at(own), Remote: at(other)}
}

func TestDatagramsCarryTheirTime(t *testing.T) {
	port := freePort(t)
	var fds [2]int
	for i, self := range []string{"a", "b"} {
		fd, err := openPath(local(0, self), port)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if fds[i] = fd; !stamps(fd) {
			t.Fatal("the kernel keeps no time of arrival")
		}
	}
	r := newReceiver()
	if n, err := r.take(fds[1]); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("an empty socket: %d, %v", n, err)
	}
	// The kernel begins to keep it a moment after somebody asks; until then what it
	// says is when the datagram was read.
	until(t, "the kernel to keep the time of arrival", func() bool {
		_, err := write(fds[0], []byte{0})
		sent := time.Now().UnixNano()
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.take(fds[1])
		return err == nil && r.arrived(0) <= sent
	})
	const sent = batch + 2
	before := time.Now().UnixNano()
	for i := range sent {
		if _, err := write(fds[0], []byte{byte(i), 1, 2}[:1+i%3]); err != nil {
			t.Fatal(err)
		}
	}
	after := time.Now().UnixNano()
	for got := 0; got < sent; {
		n, err := r.take(fds[1])
		if err != nil || n != min(batch, sent-got) {
			t.Fatalf("after %d: %d, %v", got, n, err)
		}
		for i := range n {
			if b := r.datagram(i); len(b) != 1+got%3 || b[0] != byte(got) {
				t.Errorf("datagram %d is %v", got, b)
			}
			if at := r.arrived(i); at < before || at > after {
				t.Errorf("datagram %d came at %d, sent between %d and %d", got, at, before, after)
			}
			got++
		}
	}

	// What the host's clock says of the wait counts as far as it can be true.
	if _, err := write(fds[0], []byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.take(fds[1]); err != nil {
		t.Fatal(err)
	}
	l, at := &loop{received: r}, r.arrived(0)
	for _, c := range []struct {
		clock, sinceRead, want time.Duration
	}{
		{3 * time.Millisecond, 5 * time.Millisecond, 3 * time.Millisecond},
		{6 * time.Millisecond, 5 * time.Millisecond, 0}, // set forward
		{-time.Hour, 5 * time.Millisecond, 0},           // set back
	} {
		l.wall = at + c.clock.Nanoseconds()
		now := time.Minute
		if got := l.age(now, &pathSocket{readAt: now - c.sinceRead}, 0); got != c.want {
			t.Errorf("%s by the clock, socket read %s ago: %s; want %s", c.clock, c.sinceRead, got, c.want)
		}
	}
}

// Two pulses of the fast profile on this host, so that each lets heartbeats wait
// for its own: they hear one another, and a stopped process and a killed one are
// noticed.
func TestPulsesAtRest(t *testing.T) {
	key, err := pulse.DeriveKey([]byte("the secret of this test"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	ends := map[string]*end{}
	for self, other := range map[string]string{"a": "b", "b": "a"} {
		e := &end{}
		e.Supervisor, err = Start(Config{Emit: func(_ time.Time, in failover.Input) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.said = append(e.said, fmt.Sprintf("%T", in)[len("failover."):])
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Stop(t.Context()) })
		s := Setup{Self: self, Peer: other, Key: key, Interval: pulse.Fast.Interval, Misses: pulse.Fast.Misses, Port: port}
		for i := range 2 {
			s.Paths = append(s.Paths, local(i, self))
		}
		if err := e.Set(s); err != nil {
			t.Fatal(err)
		}
		e.keepFed(t)
		ends[self] = e
	}
	a, b := ends["a"], ends["b"]
	heard := func() bool {
		for _, e := range ends {
			paths := e.Status().Paths
			if len(paths) != 2 || !paths["p0"].Up || !paths["p1"].Up {
				return false
			}
		}
		return true
	}
	until(t, "both paths both ways", heard)
	a.forget()
	pid := b.Status().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	defer resume()
	until(t, "the suspicion", a.has("PulseSuspect"))
	resume()
	until(t, "it to be heard again", heard)
	until(t, "the report of it", a.has("PulseHeard"))
	a.forget()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the refusal", a.has("PulseProcessDown"))
	until(t, "the new process to be heard", heard)
}

// The other node's pulse says goodbye and ends before our next heartbeat, which its
// kernel refuses. That comes to us first, and is a planned stop all the same.
func TestGoodbyeBehindARefusal(t *testing.T) {
	key, err := pulse.DeriveKey([]byte("the secret of this test"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	l := &loop{received: newReceiver(), setup: Setup{Paths: []Path{local(0, "a")}}, paths: make([]pathSocket, 1)}
	other, err := openPath(local(0, "b"), port)
	if err != nil {
		t.Fatal(err)
	}
	if l.paths[0].fd, err = openPath(local(0, "a"), port); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l.paths[0].fd)
	det := func(self, peer string, boot uint64) *pulse.Detector {
		d, err := pulse.NewDetector(pulse.Config{Self: self, Peer: peer, Key: key, Boot: boot, Paths: 1, Profile: pulse.Fast}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var buf, in [pulse.Size]byte
	a, b := det("a", "b", 1), det("b", "a", 2)
	l.det = a
	say := func(f pulse.Flags) {
		if _, err := write(other, b.Compose(0, pulse.Word{Flags: f}, buf[:])); err != nil {
			t.Fatal(err)
		}
	}
	hello := func() error {
		_, err := write(l.paths[0].fd, a.Compose(0, pulse.Word{}, buf[:]))
		return err
	}
	for range 3 { // they get to know one another
		say(0)
		l.drainPath(0, 0)
		if err := hello(); err != nil {
			t.Fatal(err)
		}
		if n, err := read(other, in[:]); err == nil {
			b.Receive(0, 0, in[:n])
		}
	}
	if !a.Calm() {
		t.Fatal("it is not heard")
	}
	a.Events()
	say(pulse.FlagBye)
	_ = unix.Close(other)
	if err := hello(); err != nil {
		t.Fatal(err)
	}
	l.drainPath(time.Millisecond, 0)
	left := false
	for _, e := range a.Events() {
		left = left || e.Kind == pulse.Left
		if e.Kind == pulse.ProcessDown || e.Kind == pulse.Suspected {
			t.Errorf("it left, and that was taken for %s", e.Kind)
		}
	}
	if !left {
		t.Error("its goodbye was not heard")
	}
}
