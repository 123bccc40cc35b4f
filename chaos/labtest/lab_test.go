package labtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos"
	"dyad/chaos/drill"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/projections"
)

// binary is the dyad that plays every part; DYAD_BINARY names one that is
// built already.
var binary string

func TestMain(m *testing.M) {
	parts := map[string]func([]string) error{fenceWord: fenceOff, warpWord: runWarped}
	if len(os.Args) > 1 && parts[os.Args[1]] != nil {
		if err := parts[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if os.Geteuid() != 0 || testing.Short() {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "dyad-labtest")
	if err == nil {
		binary, err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) (string, error) {
	if b := os.Getenv("DYAD_BINARY"); b != "" {
		return filepath.Abs(b)
	}
	path := filepath.Join(dir, "dyad")
	out, err := exec.Command("go", "build", "-o", path, "dyad/cmd/dyad").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build dyad: %w\n%s", err, out)
	}
	return path, nil
}

// up brings a lab of its own up, ready for drills, and takes it down again:
// nothing of it may be left.
func up(t *testing.T, router string) *lab.Lab {
	t.Helper()
	return upWith(t, router, nil)
}

// upWith does so with another configuration of the nodes.
func upWith(t *testing.T, router string, configure lab.Configure) *lab.Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces; run it with sudo")
	}
	if testing.Short() {
		t.Skip("needs root and minutes: not part of the short tests")
	}
	if router == netlab.KindFRR {
		if err := netlab.FRRInstalled(); err != nil {
			t.Fatalf("%v\nrun as root: dyad lab deps --router frr", err)
		}
	}
	dir, err := os.MkdirTemp("/run", "dyad-t") // short: socket paths are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := lab.Down(context.Background(), dir, nil); err != nil {
			t.Errorf("down: %v", err)
		}
		nothingLeft(t, dir)
	})
	l, err := lab.Up(t.Context(), lab.Options{Dir: dir, Router: router, Binary: binary, Configure: configure, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, err := netlab.Leftovers(lab.PrefixFor(dir)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory %s is still there: %v", dir, err)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), dir+"/") {
			t.Errorf("a process of the lab lives: %s: %s", p, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
}

func run(t *testing.T, l *lab.Lab, name string, change func(*chaos.Scenario)) chaos.Report {
	t.Helper()
	s, err := chaos.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	s.Target = netlab.NodeB
	if change != nil {
		change(&s)
	}
	rs, err := drill.Repeat(t.Context(), drill.Options{Lab: l, Scenario: s, Reason: t.Name(), Say: t.Logf}, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := rs[0]
	for _, a := range r.Addresses {
		t.Log(a)
	}
	t.Logf("load %.1f, prober's longest pause %.1f ms", r.Load, r.MaxPauseMS)
	return r
}

// A node that falls silent, and one that stops as planned, on each router.
func TestDrills(t *testing.T) {
	for _, router := range []string{netlab.KindFRR, netlab.KindGoBGP} {
		t.Run(router, func(t *testing.T) {
			l := up(t, router)
			t.Run("host-silent", func(t *testing.T) { hostSilent(t, l) })
			t.Run("agent-stop", func(t *testing.T) {
				r := run(t, l, string(chaos.FaultAgentStop), nil)
				if len(r.Broken) > 0 || r.LostPackets != 0 || r.FailbackLost != 0 {
					t.Errorf("a planned stop lost packets: %v", r.Broken)
				}
			})
			if router == netlab.KindFRR { // the other router adds nothing here but time
				t.Run("planned moves", func(t *testing.T) { plannedMoves(t, l) })
				t.Run("crash and hangs", func(t *testing.T) { crashAndHangs(t, l) })
			}
			t.Run("runner killed", func(t *testing.T) { runnerKilled(t, l) })
		})
	}
}

func hostSilent(t *testing.T, l *lab.Lab) {
	// A generous bound, below the heal and far below the hold time: the sharp
	// figure belongs to the bench.
	r := run(t, l, string(chaos.FaultHostSilent), func(s *chaos.Scenario) {
		s.HealAfter, s.Promise.MaxOutage = 8*time.Second, 5*time.Second
	})
	if len(r.Broken) > 0 {
		t.Errorf("broken: %v", r.Broken)
	}
	if r.FailbackLost != 0 {
		t.Errorf("failback lost %d", r.FailbackLost)
	}
	moved := 0
	for _, a := range r.Addresses {
		if a.LostPackets == 0 {
			continue
		}
		moved++
		parts := a.DetectMS + a.DecideMS + a.AnnounceMS + a.ConvergeMS
		if a.OutageMS <= 0 || parts < a.OutageMS-0.1 || parts > a.OutageMS+0.1 {
			t.Errorf("%s: the parts add up to %.3f ms of %.3f", a.Address, parts, a.OutageMS)
		}
	}
	if moved != 1 {
		t.Errorf("%d addresses were away; only the one that node-b carried should be", moved)
	}
}

// An agent that dies is told of by its kernel. Processes that stand still lose
// nothing, as the host goes on: they are gray, and their next hop stays theirs.
func crashAndHangs(t *testing.T, l *lab.Lab) {
	for _, f := range []chaos.Fault{chaos.FaultAgentCrash, chaos.FaultAgentHang, chaos.FaultPulseHang, chaos.FaultNodeHang} {
		t.Run(string(f), func(t *testing.T) {
			r := run(t, l, string(f), func(s *chaos.Scenario) {
				s.HealAfter = 5 * time.Second
				if f == chaos.FaultAgentCrash {
					s.Promise.MaxOutage = 2 * time.Second // the sharp figure belongs to the bench
				}
			})
			if len(r.Broken) > 0 {
				t.Errorf("broken: %v", r.Broken)
			}
		})
	}
	// It lasts so long that the router gives the session up.
	t.Run("past the hold time", func(t *testing.T) {
		const hold = 3 // seconds, the shortest there is
		holdTime := int64(hold)
		a, err := l.Node(netlab.NodeA)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Client().Do(t.Context(), projections.SetPeer{
			Switch: l.Plan.SwitchName, Address: l.Plan.RouterPeer,
			PeerASN: int64(l.Plan.RouterASN), SelfASN: int64(l.Plan.NodeASN), HoldTime: &holdTime,
		}, t.Name()); err != nil {
			t.Fatal(err)
		}
		r := run(t, l, string(chaos.FaultNodeHang), func(s *chaos.Scenario) { s.HealAfter = 4 * hold * time.Second })
		if len(r.Broken) > 0 {
			t.Errorf("broken: %v", r.Broken)
		}
	})
}

// The runner of a drill is killed while the fault stands: the node heals by
// its own timer, and the cluster is a pair again.
func runnerKilled(t *testing.T, l *lab.Lab) {
	cmd := exec.Command(binary, "drill", "run", "host-silent", "--lab-dir", l.Dir, "--node", netlab.NodeB, "--heal-after", "3s")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	silent := func() bool { on, err := netlab.Silent(l.NS(netlab.NodeB)); return err == nil && on }
	until(t, 90*time.Second, "the fault", silent)
	if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	until(t, 30*time.Second, "the heal", func() bool { return !silent() })
	why := ""
	until(t, 60*time.Second, "the pair", func() bool { why = l.PairNotReady(t.Context()); return why == "" })
}

func until(t *testing.T, limit time.Duration, what string, level func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !level() {
		select {
		case <-deadline:
			t.Fatalf("waited %s for %s", limit, what)
		case <-tick.C:
		}
	}
}

// A second lab in the same directory is refused; one whose state was lost, and
// whose processes were killed, still goes away without a trace.
func TestUpTwiceAndDownAfterCrash(t *testing.T) {
	l := up(t, netlab.KindGoBGP)
	_, err := lab.Up(t.Context(), lab.Options{Dir: l.Dir, Router: netlab.KindGoBGP, Binary: binary})
	if err == nil || !strings.Contains(err.Error(), "dyad lab down") {
		t.Errorf("a second lab: %v", err)
	}
	for _, name := range lab.NodeNames() {
		n, err := l.Node(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := n.Supervisor()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(l.Dir, "state.json")); err != nil {
		t.Fatal(err)
	}
	_, err = lab.Up(t.Context(), lab.Options{Dir: l.Dir, Router: netlab.KindGoBGP, Binary: binary})
	if err == nil || !strings.Contains(err.Error(), "did not end well") {
		t.Errorf("up on the leftovers of a crash: %v", err)
	}
	if had, err := lab.Down(t.Context(), l.Dir, t.Logf); err != nil || !had {
		t.Errorf("down after a crash: %v %v", had, err)
	}
	nothingLeft(t, l.Dir)
	if had, err := lab.Down(t.Context(), l.Dir, nil); err != nil || had {
		t.Errorf("down where nothing is: %v %v", had, err)
	}
}

// The demo keeps its promise, writes its report and leaves nothing; interrupted
// in the middle, it leaves nothing either, and says so by its exit code.
func TestDemo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces; run it with sudo")
	}
	if testing.Short() {
		t.Skip("needs root and minutes: not part of the short tests")
	}
	dir := filepath.Join("/run", fmt.Sprintf("dyad-d%d", os.Getpid()))
	report := filepath.Join(t.TempDir(), "demo", "report.json")
	demo := func() (*exec.Cmd, *strings.Builder) {
		cmd := exec.Command(binary, "lab", "demo", "--router", netlab.KindGoBGP, "--dir", dir, "--report", report)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	cmd, out := demo()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the demo: %v\n%s", err, out)
	}
	nothingLeft(t, dir)
	b, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(b), `"outage_ms"`) {
		t.Errorf("report: %v\n%s", err, b)
	}
	for _, want := range []string{"$ dyad hcs Set-HcsBGPPeer", "$ dyad drill run host-silent", "$ dyad log list", "══ node-b died"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}

	cmd, out = demo()
	silent := func() bool {
		on, err := netlab.Silent(lab.PrefixFor(dir) + "-" + netlab.NodeB)
		return err == nil && on
	}
	until(t, 2*time.Minute, "the fault of the second demo", silent)
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("an interrupted demo ended well:\n%s", out)
	}
	nothingLeft(t, dir)
}
