package layer2

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
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

	"github.com/vishvananda/netns"

	"dyad/chaos"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
	"dyad/projections"
	"dyad/speaker"
)

// The test binary plays a node: a speaker and an echo responder inside a network
// namespace. It reads one wish on each line and says how every claim stands.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "enter" {
		fmt.Fprintln(os.Stderr, enter(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "speak" {
		if err := speak(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// enter becomes the speaker inside a namespace. (ip netns exec would hold the
// mounts of everybody's namespaces, which then can't be removed.)
func enter(ns, name string) error {
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
	return syscall.Exec(exe, []string{exe, "speak", name}, os.Environ())
}

const echoPort = 7007

// said is what a node answers.
type said struct {
	Holdings []speaker.Holding
	Trouble  []string
	Moves    []speaker.Move
	Took     time.Duration
}

func speak(name string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = probe.Echo(ctx, echoPort, name) }()
	s := New(slog.New(slog.DiscardHandler))
	var mu sync.Mutex
	var moves []speaker.Move
	s.NotifyMoves(func(m speaker.Move) {
		mu.Lock()
		defer mu.Unlock()
		moves = append(moves, m)
	})
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var w speaker.Wish
		if err := in.Decode(&w); err != nil {
			return s.Close(ctx)
		}
		start := time.Now()
		if _, err := s.Set(ctx, w); err != nil {
			return err
		}
		a := said{Took: time.Since(start), Holdings: s.Holdings(), Trouble: s.Trouble()}
		mu.Lock()
		a.Moves = slices.Clone(moves)
		mu.Unlock()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// wire is a switch with two nodes, a and b, and two other hosts, c and x. Both
// nodes hold the service addresses on lo.
type wire struct {
	t  *testing.T
	ns map[string]string
}

var (
	vip4 = netip.MustParseAddr("10.9.0.50")
	vip6 = netip.MustParseAddr("fd09::50")
	vips = []netip.Addr{vip4, vip6}
	host = map[string]int{"a": 11, "b": 12, "c": 13, "x": 14}
)

func newWire(t *testing.T) *wire {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces; run it with sudo")
	}
	w := &wire{t: t, ns: map[string]string{}}
	for _, n := range []string{"sw", "a", "b", "c", "x"} {
		w.add(n)
	}
	w.ip("-n", w.ns["sw"], "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	w.ip("-n", w.ns["sw"], "link", "set", "br0", "up")
	for _, n := range []string{"a", "b", "c", "x"} {
		w.plug(n)
	}
	for _, n := range []string{"a", "b"} {
		w.ip("-n", w.ns[n], "addr", "add", vip4.String()+"/32", "dev", "lo")
		w.ip("-n", w.ns[n], "addr", "add", vip6.String()+"/128", "dev", "lo", "nodad")
	}
	return w
}

// plug gives a host its interface.
func (w *wire) plug(n string) {
	w.t.Helper()
	w.ip("link", "add", "eth0", "netns", w.ns[n], "type", "veth", "peer", "name", "to-"+n, "netns", w.ns["sw"])
	w.ip("-n", w.ns["sw"], "link", "set", "to-"+n, "master", "br0", "up")
	w.ip("-n", w.ns[n], "addr", "add", fmt.Sprintf("10.9.0.%d/24", host[n]), "dev", "eth0")
	w.ip("-n", w.ns[n], "addr", "add", fmt.Sprintf("fd09::%d/64", host[n]), "dev", "eth0", "nodad")
	w.ip("-n", w.ns[n], "link", "set", "eth0", "up")
}

func (w *wire) add(n string) {
	w.t.Helper()
	name := fmt.Sprintf("dyl2-%d-%s", os.Getpid(), n)
	w.ns[n] = name
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
	w.ip("-n", name, "link", "set", "lo", "up")
	// Until its link-local address is checked, a host asks nobody.
	if err := netlab.Do(name, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644)
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) ip(args ...string) string {
	w.t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return string(out)
}

// node is a running speaker.
type node struct {
	w    *wire
	name string
	cmd  *exec.Cmd
	in   *json.Encoder
	out  *json.Decoder
	last speaker.Wish
}

func (w *wire) start(name string) *node {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "enter", w.ns[name], name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &node{
		w: w, name: name, cmd: cmd, in: json.NewEncoder(stdin), out: json.NewDecoder(bufio.NewReader(stdout)),
		last: speaker.Wish{Claims: []speaker.Claim{}},
	}
}

// set makes the wish of a node for both addresses.
func (n *node) set(c projections.Layer2Claim, iface ...string) said {
	n.w.t.Helper()
	dev := "eth0"
	if len(iface) > 0 {
		dev = iface[0]
	}
	other := map[string]string{"a": "b", "b": "a"}[n.name]
	seg := projections.Segment{Switch: "s", Interface: dev}
	for _, f := range []string{"10.9.0.%d", "fd09::%d"} {
		seg.Own = append(seg.Own, netip.MustParseAddr(fmt.Sprintf(f, host[n.name])))
		seg.Others = append(seg.Others, netip.MustParseAddr(fmt.Sprintf(f, host[other])))
	}
	n.last = speaker.Wish{Claims: []speaker.Claim{}, Segments: []projections.Segment{seg}}
	for _, a := range vips {
		if c.Mode != "" {
			n.last.Claims = append(n.last.Claims, speaker.Claim{Switch: "s", Interface: dev, Address: a, Layer2Claim: c})
		}
	}
	return n.ask()
}

// ask repeats the wish, which changes nothing, and returns what the node says.
func (n *node) ask() (a said) {
	n.w.t.Helper()
	if err := n.in.Encode(n.last); err != nil {
		n.w.t.Fatal(err)
	}
	if err := n.out.Decode(&a); err != nil {
		n.w.t.Fatal(err)
	}
	return a
}

// holds polls until the node holds both addresses, or none.
func (n *node) holds(want bool) {
	n.w.t.Helper()
	var a said
	if !poll(func() bool {
		a = n.ask()
		return !slices.ContainsFunc(a.Holdings, func(h speaker.Holding) bool { return h.Held != want }) && len(a.Holdings) == len(vips)
	}) {
		n.w.t.Fatalf("%s: holding is not %v: %+v", n.name, want, a)
	}
}

// poll looks at a level for ten seconds.
func poll(level func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if level() {
			return true
		}
		<-tick.C
	}
	return level()
}

// client probes both addresses from host c.
func (w *wire) client() *probe.Prober {
	w.t.Helper()
	var targets []probe.Target
	for _, a := range vips {
		targets = append(targets, probe.Target{Address: a, Flows: 1})
	}
	p, err := probe.Start(w.t.Context(), probe.Config{
		Do:      func(f func() error) error { return netlab.Do(w.ns["c"], f) },
		Targets: targets, Port: echoPort, Hz: 500,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// from polls until the client is answered by one node on both addresses.
func from(t *testing.T, p *probe.Prober, node string) {
	t.Helper()
	var now []probe.Now
	if !poll(func() bool {
		now = p.Now()
		return !slices.ContainsFunc(now, func(n probe.Now) bool { return n.InRow < 20 || n.From[0] != node })
	}) {
		t.Fatalf("not answered by %s: %+v", node, now)
	}
}

// outage is the longest one that any address had, without those before the first
// answer.
func outage(r probe.Result) (longest time.Duration, lost int) {
	for _, s := range r.Streams {
		i := slices.IndexFunc(s.Samples, func(x chaos.Sample) bool { return x.Outcome != chaos.Lost })
		for _, o := range chaos.Outages(s.Samples[max(i, 0):]) {
			longest, lost = max(longest, o.Length()), lost+o.Lost
		}
	}
	return longest, lost
}

// mac is where the client believes an address to be.
func (w *wire) mac(a netip.Addr) string {
	for _, f := range strings.Split(w.ip("-n", w.ns["c"], "neigh", "show", a.String()), "\n") {
		if _, after, ok := strings.Cut(f, "lladdr "); ok {
			return strings.Fields(after)[0]
		}
	}
	return ""
}

func (w *wire) macOf(n, dev string) string {
	f := strings.Fields(w.ip("-n", w.ns[n], "-br", "link", "show", "dev", dev))
	return f[2]
}

var (
	own   = projections.Layer2Claim{Mode: projections.ClaimOwn, Firm: true, Preferred: true}
	spare = projections.Layer2Claim{Mode: projections.ClaimSpare}
	back  = projections.Layer2Claim{Mode: projections.ClaimSpare, Preferred: true} // of the owner that waits
	take  = projections.Layer2Claim{Mode: projections.ClaimTake}
	firm  = projections.Layer2Claim{Mode: projections.ClaimTake, Firm: true}
)

// pair starts both nodes; a owns the addresses, and the client is answered by it.
func (w *wire) pair() (a, b *node, p *probe.Prober) {
	w.t.Helper()
	a, b = w.start("a"), w.start("b")
	b.set(spare) // first, so that its kernel keeps quiet
	if s := a.set(own); len(s.Trouble) > 0 {
		w.t.Fatal(s.Trouble)
	}
	a.holds(true)
	p = w.client()
	from(w.t, p, "a")
	return a, b, p
}

// A node falls silent without a link going down; the other one takes its addresses,
// and the neighbor's cache follows at once.
func TestTakeover(t *testing.T) {
	w := newWire(t)
	_, b, p := w.pair()
	if got := w.mac(vip4); got != w.macOf("a", "eth0") {
		t.Fatalf("before: %s", got)
	}
	if err := netlab.Silence(w.ns["a"]); err != nil {
		t.Fatal(err)
	}
	s := b.set(take)
	from(t, p, "b")
	if got, want := w.mac(vip6), w.macOf("b", "eth0"); got != want {
		t.Errorf("the client has %s for the IPv6 address, want %s", got, want)
	}
	longest, _ := outage(p.Stop())
	t.Logf("outage %s, of which Set %s", longest, s.Took)
	if longest > 500*time.Millisecond {
		t.Errorf("an outage of %s", longest)
	}
}

// A planned move there and back loses nothing.
func TestMovesLoseNothing(t *testing.T) {
	w := newWire(t)
	a, b, p := w.pair()
	a.set(back) // it steps down, and answers until the other one claims
	b.set(firm)
	from(t, p, "b")
	a.holds(false)
	b.set(spare) // it gives back, likewise
	a.set(own)
	from(t, p, "a")
	b.holds(false)
	r := p.Stop()
	if longest, lost := outage(r); lost > 0 {
		t.Errorf("%d probes lost, longest outage %s", lost, longest)
		for _, st := range r.Streams {
			t.Logf("%s: %+v, pause %s", st.Address, chaos.Outages(st.Samples), r.MaxPause)
		}
	}
}

// Both hold each other for dead: as soon as they hear each other one gives way, and
// while the owner answers it stays so.
func TestTwoOwnersEndSoon(t *testing.T) {
	w := newWire(t)
	a, b, p := w.pair()
	a.set(projections.Layer2Claim{Mode: projections.ClaimTake, Firm: true, Preferred: true})
	start := time.Now()
	b.set(take)
	b.holds(false)
	took := time.Since(start)
	t.Logf("two owners for at most %s", took)
	if took > time.Second {
		t.Errorf("two owners for %s", took)
	}
	a.holds(true)
	from(t, p, "a")
	if longest, lost := outage(p.Stop()); lost > 0 {
		t.Errorf("%d probes lost, longest outage %s", lost, longest)
	}
}

// A host that has the address already is named, and not fought; when it is gone the
// address is announced.
func TestAStrangerHasIt(t *testing.T) {
	w := newWire(t)
	w.ip("-n", w.ns["x"], "addr", "add", vip4.String()+"/32", "dev", "eth0")
	w.ip("-n", w.ns["x"], "addr", "add", vip6.String()+"/128", "dev", "eth0", "nodad")
	a, b := w.start("a"), w.start("b")
	b.set(spare)
	a.set(own)
	var s said
	if !poll(func() bool {
		s = a.ask()
		return len(s.Holdings) == 2 && s.Holdings[0].Stranger != "" && s.Holdings[1].Stranger != ""
	}) {
		t.Fatalf("no conflict: %+v", s)
	}
	for _, h := range s.Holdings {
		if h.Held || h.Stranger != w.macOf("x", "eth0") {
			t.Errorf("%+v, want the MAC %s", h, w.macOf("x", "eth0"))
		}
	}
	if len(s.Moves) == 0 || s.Moves[0].Kind != speaker.MoveConflict {
		t.Errorf("moves: %+v", s.Moves)
	}
	w.ip("-n", w.ns["x"], "addr", "del", vip4.String()+"/32", "dev", "eth0")
	w.ip("-n", w.ns["x"], "addr", "del", vip6.String()+"/128", "dev", "eth0")
	if !poll(func() bool { s = a.ask(); return s.Holdings[0].Held && s.Holdings[1].Held }) && !poll(func() bool {
		s = a.ask()
		return s.Holdings[0].Held && s.Holdings[1].Held
	}) {
		t.Errorf("the stranger is gone, and still: %+v", s)
	}
}

// A host takes the address while it is announced: it is found by the slow
// repetition at the latest, and the node keeps answering.
func TestAStrangerComes(t *testing.T) {
	w := newWire(t)
	a, _, p := w.pair()
	w.ip("-n", w.ns["x"], "addr", "add", vip4.String()+"/32", "dev", "eth0")
	var s said
	if !poll(func() bool { s = a.ask(); return s.Holdings[0].Stranger == w.macOf("x", "eth0") }) {
		t.Errorf("no conflict: %+v", s)
	}
	if !s.Holdings[0].Held {
		t.Errorf("given up without being asked to: %+v", s)
	}
	p.Stop()
}

// Only who owns the address answers, though both hold it: the kernel's settings are
// made right.
func TestTheKernelKeepsQuiet(t *testing.T) {
	w := newWire(t)
	a, b := w.start("a"), w.start("b")
	b.set(spare)
	a.set(own)
	a.holds(true)
	for range 5 {
		if got, want := w.resolve(vip4, "eth0"), w.macOf("a", "eth0"); got != want {
			t.Fatalf("the client has %q, want the owner's %s", got, want)
		}
	}
}

// Nobody answers for an address: the spare takes it, and gives it up to the owner.
func TestTheSpareSteps(t *testing.T) {
	w := newWire(t)
	a, b, p := w.pair()
	a.set(projections.Layer2Claim{}) // its service is sick there
	from(t, p, "b")
	a.set(own)
	from(t, p, "a")
	b.holds(false)
	if longest, _ := outage(p.Stop()); longest > 3*time.Second {
		t.Errorf("an outage of %s", longest)
	}
}

// An interface that goes is told and waited for; a port of a bridge is the bridge.
func TestInterfacesComeAndGo(t *testing.T) {
	w := newWire(t)
	a := w.start("a")
	a.set(own)
	a.holds(true)
	w.ip("-n", w.ns["a"], "link", "del", "eth0")
	a.holds(false)
	if s := a.ask(); len(s.Trouble) == 0 || !strings.Contains(s.Trouble[0], "eth0") {
		t.Errorf("trouble: %v", s.Trouble)
	}
	w.plug("a")
	a.holds(true)
	if s := a.ask(); len(s.Trouble) != 0 {
		t.Errorf("trouble: %v", s.Trouble)
	}

	w.ip("-n", w.ns["a"], "link", "add", "br1", "type", "bridge")
	w.ip("-n", w.ns["a"], "link", "set", "br1", "up")
	w.ip("-n", w.ns["a"], "addr", "flush", "dev", "eth0")
	w.ip("-n", w.ns["a"], "link", "set", "eth0", "master", "br1")
	w.ip("-n", w.ns["a"], "addr", "add", "10.9.0.11/24", "dev", "br1")
	if !poll(func() bool { return w.resolve(vip4, "eth0") == w.macOf("a", "br1") }) {
		t.Fatalf("not answered for on the bridge: %+v", a.ask())
	}
}

// A VLAN is an interface like any other.
func TestOnAVLAN(t *testing.T) {
	w := newWire(t)
	for _, n := range []string{"a", "c"} {
		if out, err := exec.Command("ip", "-n", w.ns[n], "link", "add", "link", "eth0", "name", "v7", "type", "vlan", "id", "7").CombinedOutput(); err != nil {
			t.Skipf("this kernel has no VLAN devices: %s", out)
		}
		w.ip("-n", w.ns[n], "addr", "add", fmt.Sprintf("10.9.7.%d/24", host[n]), "dev", "v7")
		w.ip("-n", w.ns[n], "link", "set", "v7", "up")
	}
	a := w.start("a")
	a.set(own, "v7")
	a.holds(true)
	w.ip("-n", w.ns["c"], "route", "add", vip4.String()+"/32", "dev", "v7", "src", "10.9.7.13")
	if got, want := w.resolve(vip4, "v7"), w.macOf("a", "v7"); got != want {
		t.Errorf("%q, want %s", got, want)
	}
}

// resolve has the client's kernel ask anew where an address is.
func (w *wire) resolve(a netip.Addr, dev string) (mac string) {
	w.t.Helper()
	w.ip("-n", w.ns["c"], "neigh", "flush", "dev", dev)
	err := netlab.Do(w.ns["c"], func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(a, 9).String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_, err = c.Write([]byte("?"))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 100 {
		if mac = w.mac(a); mac != "" {
			return mac
		}
		<-tick.C
	}
	return ""
}
