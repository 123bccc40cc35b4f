package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
)

// agentMain is an agent in a process of its own, which a test can kill.
func agentMain(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c config.Config
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return Run(ctx, c, Options{Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
}

// machine is one of three: an agent that is killed as a whole, with its store.
type machine struct {
	*live
	t   *testing.T
	cmd *exec.Cmd
}

func newMachine(t *testing.T, c config.Config) *machine {
	m := &machine{t: t, live: &live{c: c, client: api.NewClient(api.ClientOptions{Socket: c.Socket}), log: &spoken{}}}
	t.Cleanup(func() {
		m.client.Close()
		m.kill()
		if t.Failed() {
			s := m.log.String()
			t.Logf("%s said:\n%s", c.Node, s[max(0, len(s)-6000):])
		}
	})
	return m
}

func (m *machine) start() {
	m.t.Helper()
	b, err := json.Marshal(m.c)
	if err != nil {
		m.t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(m.c.Socket), "config.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	m.cmd = exec.Command(exe, "agent", file)
	m.cmd.Stderr = m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
}

// kill is kill -9 of the agent, and by that of its store.
func (m *machine) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// trio is a pair and a third voter.
type trio struct {
	t       *testing.T
	a, b, v *machine
	n       int
}

func newTrio(t *testing.T) *trio {
	x := &trio{t: t}
	x.a = newMachine(t, liveConfig(t, "node-a", "127.0.78.41"))
	x.b = newMachine(t, liveConfig(t, "node-b", "127.0.78.42"))
	x.v = newMachine(t, liveConfig(t, "voter-c", "127.0.78.43"))
	mustInit(t, x.a.c)
	x.a.start()
	within(t, 30*time.Second, "node-a is alone", func() bool { return x.a.mode(t) == "SOLO" })
	k := x.a.token(t)
	if _, err := Join(t.Context(), x.v.c, apiAddress(x.a.c), k.Reveal(), "test", true); code(err) != "voter-pair" {
		t.Errorf("a voter beside one node: %v", err)
	}
	if _, err := Join(t.Context(), x.b.c, apiAddress(x.a.c), k.Reveal(), "test", false); err != nil {
		t.Fatal(err)
	}
	x.b.start()
	within(t, 60*time.Second, "they are a pair", func() bool { return x.a.mode(t) == "PAIR" && x.b.mode(t) == "PAIR" })
	return x
}

// widen joins the voter, and waits until all three vote.
func (x *trio) widen() {
	x.t.Helper()
	if _, err := Join(x.t.Context(), x.v.c, apiAddress(x.b.c), x.b.token(x.t).Reveal(), "test", true); err != nil {
		x.t.Fatal(err)
	}
	x.v.start()
	x.all("WITNESSED", x.a, x.b, x.v)
}

func (x *trio) all(mode string, ms ...*machine) {
	x.t.Helper()
	for _, m := range ms {
		within(x.t, 60*time.Second, fmt.Sprintf("%s is %s and writable", m.c.Node, mode), func() bool { return m.mode(x.t) == mode })
	}
}

// writes demands that a machine takes a change, after an election perhaps.
func (x *trio) writes(m *machine) {
	x.t.Helper()
	x.n++
	var err error
	within(x.t, 30*time.Second, m.c.Node+" writes", func() bool { err = m.pool(x.t, x.n); return err == nil })
}

// stuck demands that a machine takes no change, and no takeover.
func (x *trio) stuck(m *machine) {
	x.t.Helper()
	within(x.t, 20*time.Second, m.c.Node+" can't write", func() bool { return !m.status(x.t).Writable && m.status(x.t).Mode == "SUSPENDED" })
	if e := api.AsError(m.pool(x.t, 250)); e == nil || e.Class != api.ClassUnavailable || !strings.Contains(e.Why, "fewer than two") {
		x.t.Errorf("a change: %v", e)
	}
	x.noTakeover(m)
}

func (x *trio) noTakeover(m *machine) {
	x.t.Helper()
	peer := "node-a"
	if m == x.a {
		peer = "node-b"
	}
	_, err := m.client.Takeover(x.t.Context(), api.TakeoverRequest{Peer: peer, Reason: "test", AcceptLoss: true})
	if code(err) != "third-voter" {
		x.t.Errorf("a takeover at %s: %v", m.c.Node, err)
	}
}

// same demands that both nodes have the same log, at this epoch, and nobody set
// anything aside.
func (x *trio) same(epoch eventlog.Epoch) {
	x.t.Helper()
	within(x.t, 30*time.Second, "both have the same", func() bool {
		s, o := x.a.status(x.t), x.b.status(x.t)
		return s.Counts["pools"] == x.n && o.Counts["pools"] == x.n && s.Head.Epoch == epoch && o.Head.Epoch == epoch
	})
	v, err := x.a.client.Verify(x.t.Context(), true, func(_, _ eventlog.Seq) {})
	if err != nil || len(v.Damage) > 0 || len(v.Others) != 1 || !v.Others[0].Same {
		x.t.Errorf("%+v %v", v, err)
	}
	for _, m := range []*machine{x.a, x.b, x.v} {
		if found, err := filepath.Glob(filepath.Join(m.c.DataDir, "archive", "*")); err != nil || len(found) > 0 {
			x.t.Errorf("%s set %v aside: %v", m.c.Node, found, err)
		}
	}
}

// One of three may die, whichever; it comes back as itself. With two dead nobody
// writes, nobody takes over, and whichever returns first makes it go on.
func TestThirdVoter(t *testing.T) {
	needsRoot(t)
	x := newTrio(t)
	before := x.a.status(t).Head.Epoch
	x.widen()
	x.same(before + 1)
	if st, err := x.a.client.Status(t.Context(), api.ScopeCluster); err != nil || len(st) != 3 || st[2].Node != "voter-c" || st[2].Status == nil || !st[2].Status.Writable {
		t.Errorf("the cluster's status: %+v %v", st, err)
	}
	for _, dead := range []*machine{x.a, x.b, x.v} {
		dead.kill()
		for _, m := range []*machine{x.a, x.b} {
			if m != dead {
				x.writes(m)
				x.noTakeover(m)
			}
		}
		dead.start()
		x.all("WITNESSED", dead)
	}
	x.same(before + 1)
	for _, order := range [][]*machine{{x.b, x.v}, {x.v, x.b}} {
		x.b.kill()
		x.writes(x.a)
		x.v.kill()
		x.stuck(x.a)
		for _, m := range order {
			m.start()
			x.writes(x.a)
			x.all("WITNESSED", m)
		}
	}
	for _, m := range []*machine{x.a, x.b, x.v} {
		m.kill()
	}
	x.a.start()
	x.v.start()
	x.writes(x.a)
	x.b.start()
	x.all("WITNESSED", x.a, x.b, x.v)
	x.same(before + 1)
}

// A node that lost its disk joins again while the two others write; the voter's
// removal leaves a pair, in which one can take over.
func TestThirdVoterLeaves(t *testing.T) {
	needsRoot(t)
	x := newTrio(t)
	before := x.a.status(t).Head.Epoch
	x.widen()
	x.writes(x.a)
	x.b.kill()
	within(t, 10*time.Second, "node-a misses node-b", func() bool { return x.a.status(t).View.Nodes["node-b"].Silent() })
	if _, err := x.a.client.RemoveNode(t.Context(), api.RemoveNodeRequest{Node: "voter-c", Reason: "test"}); code(err) != "peer-silent" {
		t.Errorf("the voter leaves one node alone: %v", err)
	}
	if err := os.RemoveAll(storeDir(x.b.c)); err != nil {
		t.Fatal(err)
	}
	x.writes(x.a)
	x.b.start()
	within(t, 60*time.Second, "node-b votes again", func() bool { return x.b.mode(t) == "WITNESSED" && x.b.status(t).Head.Epoch == before+2 })
	x.same(before + 2)
	if _, err := x.a.client.RemoveNode(t.Context(), api.RemoveNodeRequest{Node: "node-b", Reason: "test"}); code(err) != "voter-first" {
		t.Errorf("a node leaves a voter behind: %v", err)
	}
	r, err := x.a.client.RemoveNode(t.Context(), api.RemoveNodeRequest{Node: "voter-c", Reason: "test"})
	if err != nil || r.Mode != "PAIR" || r.Epoch != before+3 {
		t.Fatalf("%+v %v", r, err)
	}
	x.all("PAIR", x.a, x.b)
	x.same(before + 3)
	within(t, 20*time.Second, "the voter is out", func() bool { st := x.v.status(t); return st.Node != "" && !st.Writable })
	x.writes(x.b)
	x.b.kill()
	within(t, 20*time.Second, "a pair needs both", func() bool { return x.a.status(t).Mode == "SUSPENDED" })
	within(t, 20*time.Second, "node-a misses node-b", func() bool { return x.a.status(t).View.Nodes["node-b"].Silent() })
	if _, err := x.a.client.Takeover(t.Context(), api.TakeoverRequest{Peer: "node-b", Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	x.writes(x.a)
	x.b.start()
	x.all("PAIR", x.a, x.b)
}

// A voter that lost its store does not begin with an empty one.
func TestVoterWithoutItsStore(t *testing.T) {
	c := liveConfig(t, "voter-c", "127.0.78.44")
	mustInit(t, c)
	s, err := etcdnode.LoadState(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	s.Voter, s.Mode, s.Epoch = true, quorum.Witnessed, 3
	if err := etcdnode.SaveState(c.DataDir, s); err != nil {
		t.Fatal(err)
	}
	if err := start(c); err == nil || !strings.Contains(err.Error(), "--voter-only") {
		t.Errorf("it says %v", err)
	}
}

// Whoever is killed while the third vote comes or goes: when it is back, the change
// goes on to its end, and nothing acknowledged is lost.
func TestThirdVoterKilledOnTheWay(t *testing.T) {
	needsRoot(t)
	x := newTrio(t)
	for i, dead := range []*machine{x.a, x.b, x.v} {
		k := x.a.token(t)
		if _, err := Join(t.Context(), x.v.c, apiAddress(x.a.c), k.Reveal(), "test", true); err != nil {
			t.Fatal(err)
		}
		x.v.start()
		if i > 0 { // the first one is killed at once
			within(t, 30*time.Second, "the change begins", func() bool { return x.a.status(t).Mode != "PAIR" || x.b.status(t).Mode != "PAIR" })
		}
		dead.kill()
		dead.start()
		x.all("WITNESSED", x.a, x.b, x.v)
		x.writes(x.b)
		asked := make(chan struct{})
		go func() { // its answer may be lost with the machine
			defer close(asked)
			_, _ = x.a.client.RemoveNode(t.Context(), api.RemoveNodeRequest{Node: "voter-c", Reason: "test"})
		}()
		within(t, 30*time.Second, "the voter is named no more", func() bool {
			_, err := x.b.client.RemoveNode(t.Context(), api.RemoveNodeRequest{Node: "voter-c", Reason: "test", DryRun: true})
			return code(err) == "node-unknown"
		})
		dead.kill()
		dead.start()
		<-asked
		x.all("PAIR", x.a, x.b)
		x.writes(x.a)
		x.same(x.a.status(t).Head.Epoch)
		x.v.kill()
		if err := os.RemoveAll(x.v.c.DataDir); err != nil {
			t.Fatal(err)
		}
	}
}
