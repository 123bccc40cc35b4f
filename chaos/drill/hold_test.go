package drill

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// The test binary plays the agent, its supervisor and the process that holds a
// fault, each as a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "agent" && os.Args[1] != "play" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if err := play(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func play(ctx context.Context, args []string) error {
	if args[0] == "agent" { // with a child, as the real one has
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			return err
		}
		<-ctx.Done()
		_ = child.Process.Kill()
		return child.Wait()
	}
	n := lab.Node{Name: "node-a", NS: args[2], Dir: args[3], Config: "none"}
	switch args[1] {
	case "supervise":
		return lab.Supervise(ctx, n, os.Args[0], slog.Default())
	case "hold":
		d, err := time.ParseDuration(args[5])
		if err != nil {
			return err
		}
		return Hold(ctx, n, chaos.Fault(args[4]), d, "test")
	}
	return fmt.Errorf("no part %q", args[1])
}

func until(t *testing.T, what string, level func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !level() {
		select {
		case <-deadline:
			t.Fatalf("waited 20 s for %s", what)
		case <-tick.C:
		}
	}
}

// stage is one node with a supervised agent.
type stage struct {
	t    *testing.T
	node lab.Node
	sup  netlab.Process
}

func newStage(t *testing.T, prefix string) *stage {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces; run it with sudo")
	}
	t.Cleanup(func() {
		if err := netlab.Teardown(prefix); err != nil {
			t.Error(err)
		}
		if left, err := netlab.Leftovers(prefix); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
	if err := netlab.Build(netlab.DefaultPlan().Topology(prefix)); err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, node: lab.Node{Name: "node-a", NS: prefix + "-node-a", Dir: t.TempDir()}}
	s.sup = s.play("supervise")
	until(t, "an agent with its child", func() bool { a, err := s.node.Agent(); return err == nil && len(a.Tree()) == 2 })
	return s
}

func (s *stage) play(part string, args ...string) netlab.Process {
	s.t.Helper()
	argv := append([]string{"play", part, s.node.NS, s.node.Dir}, args...)
	p, err := netlab.Detach(s.node.NS, exec.Command(os.Args[0], argv...), filepath.Join(s.node.Dir, part+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *stage) agent() netlab.Process {
	s.t.Helper()
	a, err := s.node.Agent()
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *stage) silent() bool {
	on, err := netlab.Silent(s.node.NS)
	if err != nil {
		s.t.Fatal(err)
	}
	return on
}

// back waits for an agent that is another process than the old one, on a node
// that is not silent.
func (s *stage) back(old netlab.Process) {
	s.t.Helper()
	until(s.t, "the agent to be started again", func() bool {
		a, err := s.node.Agent()
		return err == nil && a != old && a.Alive()
	})
	if s.silent() {
		s.t.Error("the agent runs on a silent node")
	}
}

func TestHoldHostSilent(t *testing.T) {
	s := newStage(t, "dyh1")
	old := s.agent()
	family := old.Tree()
	hold := s.play("hold", "host-silent", "2s")
	until(t, "the fault to bite", func() bool { _, err := readHeld(s.node); return err == nil })
	if !s.silent() {
		t.Error("the node is not silent")
	}
	for _, p := range family {
		if p.Alive() {
			t.Errorf("process %d of the agent lives", p.PID)
		}
	}
	until(t, "the holder to end", func() bool { return !hold.Alive() })
	h, err := readHeld(s.node)
	if err != nil || h.HealedAt.Sub(h.AppliedAt) < 2*time.Second || h.Error != "" {
		t.Errorf("%+v %v", h, err)
	}
	if a, err := s.node.Agent(); err == nil && a != old && h.HealedAt.IsZero() {
		t.Error("the agent was started before the heal")
	}
	s.back(old)
}

// Whoever holds a fault may be killed: the node heals all the same.
func TestHoldKilled(t *testing.T) {
	s := newStage(t, "dyh2")
	old := s.agent()
	hold := s.play("hold", "host-silent", "10m")
	until(t, "the fault to bite", func() bool { _, err := readHeld(s.node); return err == nil })
	if err := hold.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.back(old)
}

// SIGTERM heals at once.
func TestHoldEndsEarly(t *testing.T) {
	s := newStage(t, "dyh3")
	old := s.agent()
	hold := s.play("hold", "host-silent", "10m")
	until(t, "the fault to bite", func() bool { _, err := readHeld(s.node); return err == nil })
	if err := hold.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.back(old)
	if h, err := readHeld(s.node); err != nil || h.HealedAt.IsZero() {
		t.Errorf("%+v %v", h, err)
	}
}

func TestHoldAgentStop(t *testing.T) {
	s := newStage(t, "dyh4")
	old := s.agent()
	s.play("hold", "agent-stop", "1s")
	until(t, "the agent to stop", func() bool { _, err := readHeld(s.node); return err == nil && !old.Alive() })
	if s.silent() {
		t.Error("a planned stop silenced the node")
	}
	s.back(old)
}

// A second fault on a node is refused while the first one stands.
func TestHoldTwice(t *testing.T) {
	s := newStage(t, "dyh5")
	unlock, err := lab.WaitLock(t.Context(), s.node.HoldPath())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	second := s.play("hold", "host-silent", "1s")
	until(t, "the second to give up", func() bool { return !second.Alive() })
	if h, err := readHeld(s.node); err != nil || h.Error == "" || !h.AppliedAt.IsZero() {
		t.Errorf("%+v %v", h, err)
	}
	if s.silent() || !s.agent().Alive() {
		t.Error("the refused fault was applied")
	}
}

// The supervisor starts an agent that died by itself again, and leaves no
// orphan of it; it ends with everything it started.
func TestSupervise(t *testing.T) {
	s := newStage(t, "dyh6")
	old := s.agent()
	family := old.Tree()
	if err := old.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.back(old)
	for _, p := range family {
		if p.Alive() {
			t.Errorf("process %d of the dead agent lives", p.PID)
		}
	}
	now := s.agent().Tree()
	if err := s.sup.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	for _, p := range now {
		if p.Alive() {
			t.Errorf("process %d outlived its supervisor", p.PID)
		}
	}
}

// stopped tells whether every process of the list stands still.
func stopped(list []netlab.Process) bool {
	for _, p := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		if err != nil || !strings.HasPrefix(string(b[strings.LastIndexByte(string(b), ')')+1:]), " T") {
			return false
		}
	}
	return len(list) > 0
}

// Processes that were made to stand still go on at the heal, also if whoever
// holds the fault is killed.
func TestHoldHang(t *testing.T) {
	for name, end := range map[string]func(netlab.Process) error{
		"dyh7": func(netlab.Process) error { return nil },
		"dyh8": func(hold netlab.Process) error { return hold.Signal(unix.SIGKILL) },
	} {
		s := newStage(t, name)
		family := s.agent().Tree()
		hold := s.play("hold", "node-hang", "2s")
		until(t, "the fault to bite", func() bool { _, err := readHeld(s.node); return err == nil })
		if !stopped(family) {
			t.Error("the agent and its children go on")
		}
		if err := end(hold); err != nil {
			t.Fatal(err)
		}
		until(t, "all to go on", func() bool {
			for _, p := range family {
				if !p.Alive() || stopped([]netlab.Process{p}) {
					return false
				}
			}
			return true
		})
		if now := s.agent().Tree(); !slices.Equal(now, family) {
			t.Errorf("other processes than before: %v, were %v", now, family)
		}
	}
}
