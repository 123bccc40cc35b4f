package netlab

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gobgpapi "github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dyad/chaos/netlab/gobgprouter"
	"dyad/chaos/probe"
)

// The test binary plays the other roles itself: a router, a node that
// announces one prefix, an echo responder. Each runs in its namespace.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "lab" {
		if err := role(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func role(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	switch args[0] {
	case "echo":
		return probe.Echo(ctx, DefaultPlan().EchoPort, args[1])
	case "speak":
		return speak(ctx, args[1], args[2])
	case "router":
		b, err := os.ReadFile(args[2])
		if err != nil {
			return err
		}
		var c RouterConfig
		if err := json.Unmarshal(b, &c); err != nil {
			return err
		}
		g := gobgprouter.Config{ASN: c.ASN, RouterID: c.RouterID, HoldTime: c.HoldTime}
		for _, p := range c.Peers {
			g.Peers = append(g.Peers, gobgprouter.Peer{Address: p.Address, ASN: p.ASN})
		}
		r, err := gobgprouter.Start(ctx, g)
		if err != nil {
			return err
		}
		err = r.Serve(ctx, c.Socket())
		_ = r.Close(context.Background())
		return err
	}
	return fmt.Errorf("no role %q", args[0])
}

// speak announces prefix with next hop self to the lab's router until ctx ends.
func speak(ctx context.Context, self, prefix string) error {
	p := DefaultPlan()
	level := &slog.LevelVar{}
	level.Set(slog.LevelError)
	s := server.NewBgpServer(server.LoggerOption(slog.Default(), level))
	go s.Serve()
	err := s.StartBgp(ctx, &gobgpapi.StartBgpRequest{Global: &gobgpapi.Global{Asn: p.NodeASN, RouterId: self, ListenPort: -1}})
	if err != nil {
		return err
	}
	nlri, err := bgp.NewIPAddrPrefix(netip.MustParsePrefix(prefix))
	if err != nil {
		return err
	}
	hop, err := bgp.NewPathAttributeNextHop(netip.MustParseAddr(self))
	if err != nil {
		return err
	}
	_, err = s.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{{
		Family: bgp.RF_IPv4_UC, Nlri: nlri, Attrs: []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(2), hop},
	}}})
	if err != nil {
		return err
	}
	err = s.AddPeer(ctx, &gobgpapi.AddPeerRequest{Peer: &gobgpapi.Peer{
		Conf:   &gobgpapi.PeerConf{NeighborAddress: p.RouterPeer.String(), PeerAsn: p.RouterASN},
		Timers: &gobgpapi.Timers{Config: &gobgpapi.TimersConfig{HoldTime: 90, KeepaliveInterval: 30, ConnectRetry: 1, IdleHoldTimeAfterReset: 1}},
	}})
	if err != nil {
		return err
	}
	<-ctx.Done()
	s.Stop()
	return nil
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces; run it with sudo")
	}
}

// build makes a network of its own and takes it away again.
func build(t *testing.T, prefix string) (Plan, Topology) {
	t.Helper()
	needRoot(t)
	p := DefaultPlan()
	top := p.Topology(prefix)
	t.Cleanup(func() {
		if err := Teardown(prefix); err != nil {
			t.Errorf("tear down: %v", err)
		}
		if left, err := Leftovers(prefix); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
	if err := Build(top); err != nil {
		t.Fatal(err)
	}
	return p, top
}

func spawn(t *testing.T, ns string, args ...string) Process {
	t.Helper()
	p, err := Detach(ns, exec.Command(os.Args[0], append([]string{"lab"}, args...)...), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func linkState(ns, dev string) (state string, err error) {
	err = withHandle(ns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(dev)
		if err == nil {
			state = l.Attrs().OperState.String()
		}
		return err
	})
	return state, err
}

func until(t *testing.T, limit time.Duration, what string, level func() bool) {
	t.Helper()
	if err := poll(limit, what, func() (bool, error) { return level(), nil }); err != nil {
		t.Fatal(err)
	}
}

func TestBuildTwiceAndTeardown(t *testing.T) {
	_, top := build(t, "dyt1")
	if err := Build(top); err != nil {
		t.Errorf("a second build: %v", err)
	}
	d, err := Devices(top.Full(NodeA))
	if err != nil || !slices.Equal(d, []string{PortRouter, PortCluster}) {
		t.Errorf("devices of node-a: %v %v", d, err)
	}
	sleeper := exec.Command("sleep", "600")
	p, err := Detach(top.Full(NodeB), sleeper, filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := Leftovers("dyt1"); len(left) < 4 {
		t.Errorf("leftovers of a running lab: %v", left)
	}
	if err := Teardown("dyt1"); err != nil {
		t.Error(err)
	}
	if p.Alive() {
		t.Error("a process outlived its namespace")
	}
}

// Silence stops everything, ARP too, without a link going down, and ends
// without a trace.
func TestSilence(t *testing.T) {
	plan, top := build(t, "dyt2")
	node := top.Full(NodeA)
	spawn(t, node, "echo", "node-a")
	pr, err := probe.Start(t.Context(), probe.Config{
		Do:      func(f func() error) error { return Do(top.Full(Client), f) },
		Targets: []probe.Target{{Address: plan.NodePeer[NodeA]}, {Address: plan.NodePeer6[NodeA]}},
		Port:    plan.EchoPort, Hz: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Stop()
	well := func() bool { n := pr.Now(); return n[0].InRow > 20 && n[1].InRow > 20 }
	until(t, settleLimit, "answers", well)
	for range 2 { // the second changes nothing
		if err := Silence(node); err != nil {
			t.Fatal(err)
		}
	}
	until(t, settleLimit, "silence", func() bool { n := pr.Now(); return n[0].InRow == 0 && n[1].InRow == 0 })
	if on, err := Silent(node); err != nil || !on {
		t.Errorf("silent: %v %v", on, err)
	}
	for _, dev := range []string{"to-node-a", "br-nodes"} {
		if state, err := linkState(top.Full(Router), dev); err != nil || state != "up" {
			t.Errorf("%s went down: that is no silent death", dev)
		}
	}
	for range 2 {
		if err := Unsilence(node); err != nil {
			t.Fatal(err)
		}
	}
	until(t, settleLimit, "answers after the silence", well)
}

// Isolated ports don't reach each other, and each reaches the router.
func TestIsolate(t *testing.T) {
	plan, top := build(t, "dyt4")
	spawn(t, top.Full(NodeA), "echo", "node-a")
	var probers []*probe.Prober
	for _, ns := range []string{NodeB, Client} {
		pr, err := probe.Start(t.Context(), probe.Config{
			Do:      func(f func() error) error { return Do(top.Full(ns), f) },
			Targets: []probe.Target{{Address: plan.NodePeer[NodeA]}},
			Port:    plan.EchoPort, Hz: 1000,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer pr.Stop()
		probers = append(probers, pr)
	}
	inRow := func(i int) int { return probers[i].Now()[0].InRow }
	well := func() bool { return inRow(0) > 20 && inRow(1) > 20 }
	until(t, settleLimit, "answers", well)
	ports := []string{PortTo(NodeA), PortTo(NodeB)}
	if err := Isolate(top.Full(Router), true, ports...); err != nil {
		t.Fatal(err)
	}
	until(t, settleLimit, "the nodes to be apart, and the client not", func() bool { return inRow(0) == 0 && inRow(1) > 20 })
	if err := Isolate(top.Full(Router), false, ports...); err != nil {
		t.Fatal(err)
	}
	until(t, settleLimit, "answers afterwards", well)
}

// Each router learns a prefix from both nodes, shares the traffic over them,
// and forgets it when they go.
func TestRouters(t *testing.T) {
	kinds := []string{KindGoBGP, KindFRR, KindBIRD}
	for i, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			needRoot(t)
			if _, err := exec.LookPath("bird"); err != nil && kind == KindBIRD {
				t.Fatalf("BIRD is not installed: %v; run as root: dyad lab deps --router bird", err)
			}
			if err := FRRInstalled(); err != nil && kind == KindFRR {
				t.Fatal(err)
			}
			plan, top := build(t, fmt.Sprintf("dyt3%d", i))
			routerCarriesRoutes(t, kind, plan, top)
		})
	}
}

func routerCarriesRoutes(t *testing.T, kind string, plan Plan, top Topology) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := RouterConfig{
		NS: top.Full(Router), Dir: t.TempDir(), ASN: plan.RouterASN, RouterID: plan.RouterPeer,
		HoldTime: plan.HoldTime, Binary: os.Args[0],
	}
	var peers []netip.Addr
	for _, n := range []string{NodeA, NodeB} {
		c.Peers = append(c.Peers, RouterPeer{plan.NodePeer[n], plan.NodeASN}, RouterPeer{plan.NodePeer6[n], plan.NodeASN})
		peers = append(peers, plan.NodePeer[n])
	}
	r, err := NewRouter(kind, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if table, err := Table(c.NS); err != nil || len(table) != 0 {
			t.Errorf("routes left by the router: %v %v", table, err)
		}
	}()
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	a := spawn(t, top.Full(NodeA), "speak", peers[0].String(), "198.51.100.1/32")
	b := spawn(t, top.Full(NodeB), "speak", peers[1].String(), "198.51.100.1/32")
	if err := WaitEstablished(ctx, r, peers...); err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix("198.51.100.1/32")
	hops := func(want ...netip.Addr) func() bool {
		return func() bool {
			table, err := Table(c.NS)
			return err == nil && slices.Equal(table[prefix], want)
		}
	}
	until(t, settleLimit, "both next hops", hops(peers...))
	if text, err := r.Show(ctx); err != nil || !strings.Contains(text, "198.51.100.1/32") {
		t.Errorf("show: %v\n%s", err, text)
	}
	if err := a.Stop(0); err != nil {
		t.Fatal(err)
	}
	until(t, settleLimit, "the other next hop alone", hops(peers[1]))
	if err := b.Stop(0); err != nil {
		t.Fatal(err)
	}
	until(t, settleLimit, "no next hop", hops())
}

func TestProcessTree(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 600 & sleep 600 & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := FindProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	until(t, settleLimit, "two children", func() bool { return len(p.Tree()) == 3 })
	tree := p.Tree()
	if err := p.KillTree(); err != nil {
		t.Fatal(err)
	}
	for _, q := range tree {
		if q.Alive() {
			t.Errorf("process %d lives", q.PID)
		}
	}
	reused := Process{PID: os.Getpid(), Start: 1}
	if reused.Alive() || reused.Signal(unix.SIGTERM) == nil {
		t.Error("a number used again was taken for the old process")
	}
}
