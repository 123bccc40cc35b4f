package beat

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"dyad/failover"
	"dyad/failover/pulse"
)

// The test binary plays the pulse process, and an agent that is about to die.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "pulse" {
		if err := ChildMain(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == "enter" {
		fmt.Fprintln(os.Stderr, enter(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter becomes the pulse process inside a namespace. (ip netns exec would hold
// the mounts of everybody's namespaces, which then can't be removed.)
func enter(ns string) error {
	runtime.LockOSThread()
	h, err := netns.GetFromName(ns)
	if err == nil {
		err = netns.Set(h)
	}
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(exe, []string{exe, "pulse"}, os.Environ())
}

// wire is two namespaces, a and b, with two links between them: i (10.1.0.0/24)
// and r (10.2.0.0/24, 2001:db8:2::/64).
type wire struct {
	t  *testing.T
	ns map[string]string
}

func newWire(t *testing.T) *wire {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces; run it with sudo")
	}
	w := &wire{t: t, ns: map[string]string{}}
	for _, n := range []string{"a", "b"} {
		w.add(n)
	}
	for _, l := range []struct{ name, subnet string }{{"i", "10.1.0"}, {"r", "10.2.0"}} {
		w.ip("link", "add", l.name, "netns", w.ns["a"], "type", "veth", "peer", "name", l.name, "netns", w.ns["b"])
		for i, n := range []string{"a", "b"} {
			w.ip("-n", w.ns[n], "addr", "add", fmt.Sprintf("%s.%d/24", l.subnet, i+1), "dev", l.name)
			w.ip("-n", w.ns[n], "link", "set", l.name, "up")
		}
	}
	for i, n := range []string{"a", "b"} {
		w.ip("-n", w.ns[n], "addr", "add", fmt.Sprintf("2001:db8:2::%d/64", i+1), "dev", "r", "nodad")
	}
	return w
}

// add makes a namespace. (ip netns add would mount over the namespaces that are
// there already, which then can't be removed.)
func (w *wire) add(node string) {
	w.t.Helper()
	name := fmt.Sprintf("dybeat-%d-%s", os.Getpid(), node)
	w.ns[node] = name
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is in the new namespace
		h, err := netns.NewNamed(name)
		if err == nil {
			err = h.Close()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = netns.DeleteNamed(name) })
}

func (w *wire) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// in runs f on a thread that is in the namespace of a node.
func (w *wire) in(node string, f func() error) {
	w.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		h, err := netns.GetFromName(w.ns[node])
		if err == nil {
			err = netns.Set(h)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

// end is one node's pulse, with everything it has said.
type end struct {
	*Supervisor
	mu   sync.Mutex
	said []string
}

func (w *wire) start(node string) *end {
	w.t.Helper()
	e := &end{}
	var err error
	e.Supervisor, err = Start(Config{
		Args: []string{"enter", w.ns[node]}, // also when it is started again
		Emit: func(_ time.Time, in failover.Input) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.said = append(e.said, strings.TrimPrefix(fmt.Sprintf("%T", in), "failover."))
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { e.Stop(w.t.Context()) })
	if err := e.Set(w.setup(node)); err != nil {
		w.t.Fatal(err)
	}
	e.keepFed(w.t)
	return e
}

// keepFed feeds the pulse as an agent does, until the test ends.
func (e *end) keepFed(t *testing.T) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(FeedBound / 10)
		defer tick.Stop()
		for {
			e.Feed(Feed{Armed: true, Word: pulse.Word{Epoch: 7}})
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() { close(stop); wg.Wait() })
}

func (w *wire) setup(node string) Setup {
	key, err := pulse.DeriveKey([]byte("the secret of this test"))
	if err != nil {
		w.t.Fatal(err)
	}
	own, other := 1, 2
	if node == "b" {
		own, other = 2, 1
	}
	at := func(format string, n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, n)) }
	i, r, r6 := "10.1.0.%d", "10.2.0.%d", "2001:db8:2::%d"
	return Setup{
		Self: node, Peer: string('a' + byte(other-1)), Key: key, Interval: 20 * time.Millisecond, Misses: 3, Port: 7947,
		Paths: []Path{
			{Name: "interlink", Local: at(i, own), Remote: at(i, other)},
			{Name: "r", Interface: "r", Local: at(r, own), Remote: at(r, other)},
			{Name: "r/6", Interface: "r", Local: at(r6, own), Remote: at(r6, other)},
		},
		Targets: []Target{
			{Class: pulse.Kernel, Interface: "i", Own: at(i, own), Address: at(i, other)},
			{Class: pulse.Hop, Interface: "r", Own: at(r, own), Address: at(r, other)},
			{Class: pulse.Hop, Interface: "r", Own: at(r6, own), Address: at(r6, other)},
		},
	}
}

// until waits for a level, with a bound that a busy machine does not reach.
func until(t *testing.T, what string, level func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !level() {
		select {
		case <-deadline:
			t.Fatalf("waited 20 s for %s", what)
		case <-tick.C:
		}
	}
}

func (e *end) has(kind string) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return slices.Contains(e.said, kind)
	}
}

func (e *end) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = nil
}

// paths tells whether all three paths of an end hear the other node.
func (e *end) wired() bool {
	up := 0
	for _, p := range e.Status().Paths {
		if p.Up {
			up++
		}
	}
	return up == 3
}

func (w *wire) pair() (a, b *end) {
	w.t.Helper()
	a, b = w.start("a"), w.start("b")
	until(w.t, "three paths both ways", func() bool { return a.wired() && b.wired() })
	a.forget()
	b.forget()
	return a, b
}

func TestTwoPulses(t *testing.T) {
	w := newWire(t)
	a, b := w.pair()
	until(t, "counters", func() bool { return a.Status().Counts.Received > 0 })

	// The process dies: the other node's kernel tells, and it is started again.
	pid := b.Status().PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the refusal", a.has("PulseProcessDown"))
	until(t, "the restart", func() bool { s := b.Status(); return s.PID != 0 && s.PID != pid && s.Restarts == 1 })
	until(t, "the new process to be heard", func() bool { return a.has("PulseHeard")() && a.wired() && b.wired() })
	if a.has("PulseHop")() {
		t.Error("a next hop was taken from a node whose kernel answers")
	}

	// It stands still: silence, but the kernel answers, so nothing is taken for long.
	a.forget()
	pid = b.Status().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the suspicion", a.has("PulseSuspect"))
	until(t, "the kernel's answer", a.has("PulseKernel"))
	until(t, "every next hop to be its owner's", func() bool { return len(a.Status().Held) == 0 })
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until(t, "the process to be heard again", a.has("PulseHeard"))

	// A planned stop says goodbye.
	a.forget()
	b.Stop(t.Context())
	until(t, "the goodbye", a.has("PulseLeft"))
	if a.has("PulseSuspect")() {
		t.Error("a planned stop was suspected")
	}
}

// neighborMAC is where a's kernel, playing the router, believes an address to be.
func (w *wire) neighborMAC(node string, address netip.Addr) (mac string) {
	w.in(node, func() error {
		l, err := netlink.LinkByName("r")
		if err != nil {
			return err
		}
		list, err := netlink.NeighList(l.Attrs().Index, 0)
		for _, n := range list {
			if n.IP.Equal(address.AsSlice()) {
				mac = n.HardwareAddr.String()
			}
		}
		return err
	})
	return mac
}

func (w *wire) mac(node string) (mac string) {
	w.in(node, func() error {
		l, err := netlink.LinkByName("r")
		if err == nil {
			mac = l.Attrs().HardwareAddr.String()
		}
		return err
	})
	return mac
}

// A third station on the segment plays the router: b's machine falls silent, and
// the router's neighbor cache says a, for IPv4 and for IPv6; b comes back, and it
// says b again.
func TestNextHopIsTakenAndGivenBack(t *testing.T) {
	w := newWire(t)
	w.add("router")
	router := w.ns["router"]
	// The segment becomes a bridge in the router's namespace.
	w.ip("-n", w.ns["a"], "link", "del", "r")
	// Its own address, or it would change with its ports and forget its neighbors.
	w.ip("-n", router, "link", "add", "r", "address", "02:00:00:00:00:09", "type", "bridge")
	for i, n := range []string{"a", "b"} {
		w.ip("link", "add", "r", "netns", w.ns[n], "type", "veth", "peer", "name", "to-"+n, "netns", router)
		w.ip("-n", router, "link", "set", "to-"+n, "master", "r", "up")
		w.ip("-n", w.ns[n], "addr", "add", fmt.Sprintf("10.2.0.%d/24", i+1), "dev", "r")
		w.ip("-n", w.ns[n], "addr", "add", fmt.Sprintf("2001:db8:2::%d/64", i+1), "dev", "r", "nodad")
		w.ip("-n", w.ns[n], "link", "set", "r", "up")
	}
	w.ip("-n", router, "addr", "add", "10.2.0.9/24", "dev", "r")
	w.ip("-n", router, "addr", "add", "2001:db8:2::9/64", "dev", "r", "nodad")
	w.ip("-n", router, "link", "set", "r", "up")
	a, b := w.pair()
	hops := []netip.Addr{netip.MustParseAddr("10.2.0.2"), netip.MustParseAddr("2001:db8:2::2")}
	macA, macB := w.mac("a"), w.mac("b")
	for _, h := range hops {
		w.ip("-n", router, "neigh", "replace", h.String(), "lladdr", macB, "dev", "r", "nud", "reachable")
	}
	at := func(mac string) func() bool {
		return func() bool {
			return w.neighborMAC("router", hops[0]) == mac && w.neighborMAC("router", hops[1]) == mac
		}
	}
	if !at(macB)() {
		t.Fatal("the router does not know b")
	}
	// b's links go dark, and its process stands still: the whole machine is silent.
	if err := syscall.Kill(b.Status().PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.ip("-n", router, "link", "set", "to-b", "nomaster")
	w.ip("-n", w.ns["a"], "link", "set", "i", "down")
	until(t, "the router to send to a", at(macA))
	// The frames go first, and the report of them after.
	until(t, "both to be held", func() bool { return len(a.Status().Held) == 2 })
	// It comes back.
	w.ip("-n", router, "link", "set", "to-b", "master", "r")
	if err := syscall.Kill(b.Status().PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	until(t, "the router to send to b again", at(macB))
	until(t, "nothing to be held", func() bool { return len(a.Status().Held) == 0 })
}

// An agent that does not feed its pulse is called hung; one that is gone is said
// to be gone.
func TestHungAndDeadAgents(t *testing.T) {
	w := newWire(t)
	a := w.start("a")
	var in *os.File
	w.in("b", func() error {
		cmd := exec.Command(os.Args[0], "pulse")
		r, wr, err := os.Pipe()
		if err != nil {
			return err
		}
		cmd.Stdin, in = r, wr
		if err := cmd.Start(); err != nil {
			return err
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return r.Close()
	})
	setup, err := encodeSetup(w.setup("b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(in, frameSetup, setup); err != nil {
		t.Fatal(err)
	}
	until(t, "b to be heard", a.has("PulseHeard"))
	until(t, "b's agent to be called hung", a.has("PulseWord"))
	_ = in.Close()
	until(t, "b's last words", a.has("PulseProcessDown"))
	if a.has("PulseSuspect")() {
		t.Error("it was suspected first")
	}
}
