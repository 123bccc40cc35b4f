package etcdnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// The test binary is its own child, as dyad is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "store":
			fail(ChildMain(context.Background(), os.Args[2:], os.Stdin))
			os.Exit(0)
		case "lock":
			_, err := LockDir(os.Args[2])
			fail(err)
			os.Exit(0)
		case "agent": // an agent that is about to be killed
			fail(agent(os.Args[2], os.Args[3]))
			os.Exit(0)
		case "broken":
			fail(errors.New("out of luck"))
		}
	}
	os.Exit(m.Run())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// agent supervises a store, prints its PID, and waits to be killed.
func agent(dir, peer string) error {
	s, err := Start(context.Background(), SupervisorConfig{Serve: solo("a", dir, peer, freeURL())})
	if err != nil {
		return err
	}
	if err := s.WaitReady(context.Background()); err != nil {
		return err
	}
	fmt.Println(s.PID())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func freeURL() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func solo(name, dir, peer, client string) ServeConfig {
	return ServeConfig{
		Name: name, Dir: filepath.Join(dir, "store"), PeerURL: peer, ClientURL: client, Cluster: "c-1",
		Members: map[string]string{name: peer}, Heartbeat: 20 * time.Millisecond, Election: 150 * time.Millisecond,
	}
}

func testContext(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// told collects what Notify hears.
type told struct {
	mu  sync.Mutex
	all []string
}

func (n *told) notify(up bool, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, fmt.Sprintf("%v %s", up, why))
}

func (n *told) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.all...)
}

func start(t *testing.T, c ServeConfig) (*Supervisor, *told) {
	t.Helper()
	n := &told{}
	s, err := Start(context.Background(), SupervisorConfig{Serve: c, Notify: n.notify, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(testDone(t)) })
	return s, n
}

// testDone has ended: stopping with it kills.
func testDone(*testing.T) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func ready(t *testing.T, s *Supervisor) {
	t.Helper()
	if err := s.WaitReady(testContext(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, c ServeConfig) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(etcdlog.ClientConfig(c.ClientURL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func openLog(t *testing.T, client *clientv3.Client) *etcdlog.Log {
	t.Helper()
	l, err := etcdlog.Open(client, etcdlog.Options{CallTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func draft(stream string, n int) eventlog.Draft {
	id := stream + "-" + strconv.Itoa(n)
	return eventlog.Draft{ID: id, Key: id, Type: eventlog.TypePeerSet, Stream: stream}
}

func put(t *testing.T, l eventlog.Log, d eventlog.Draft) {
	t.Helper()
	if _, err := l.Append(testContext(t, 10*time.Second), eventlog.Batch{Drafts: []eventlog.Draft{d}}); err != nil {
		t.Fatal(err)
	}
}

// within polls for a level.
func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(d)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestSoloStartStopStart(t *testing.T) {
	c := solo("a", t.TempDir(), freeURL(), freeURL())
	s, n := start(t, c)
	ready(t, s)
	client := dial(t, c)
	l := openLog(t, client)
	put(t, l, draft("x", 1))
	pid := s.PID()
	if !alive(pid) || s.Restarts() != 0 {
		t.Errorf("pid %d alive: %v, restarts %d; want a child that was never restarted", pid, alive(pid), s.Restarts())
	}
	// A follower keeps its watch open: the stop must not wait for it.
	ctx := testContext(t, 20*time.Second)
	caughtUp, ended := make(chan bool, 1), make(chan bool)
	go func() {
		defer close(ended)
		for range l.Follow(ctx, eventlog.Head{}) {
			select {
			case caughtUp <- true:
			default:
			}
		}
	}()
	<-caughtUp
	began := time.Now()
	s.Stop(testContext(t, 10*time.Second))
	if took := time.Since(began); took > stopBound-500*time.Millisecond {
		t.Errorf("a stop with a watch open took %v", took)
	}
	if alive(pid) || s.PID() != 0 {
		t.Errorf("after the stop process %d is alive: %v; PID says %d", pid, alive(pid), s.PID())
	}
	s.Stop(t.Context()) // twice is fine
	if err := s.WaitReady(t.Context()); err == nil {
		t.Error("a stopped store is ready")
	}
	if got := strings.Join(n.list(), "; "); got != "true ready; false stopped" {
		t.Errorf("told %q", got)
	}
	l.Close()
	<-ended

	s, _ = start(t, c)
	ready(t, s)
	if h, err := openLog(t, client).Head(testContext(t, 10*time.Second)); err != nil || h.Seq != 1 {
		t.Errorf("after a restart the head is %v (%v), want 1", h, err)
	}
}

// Eight writers append while the store is killed again and again. What was
// acknowledged is there, once.
func TestKilledUnderLoad(t *testing.T) {
	const writers, kills = 8, 8
	c := solo("a", t.TempDir(), freeURL(), freeURL())
	s, n := start(t, c)
	ready(t, s)
	client := dial(t, c)
	l := openLog(t, client)
	ctx, stop := context.WithCancel(testContext(t, time.Minute))
	defer stop()
	acknowledged := make([]int, writers) // of each writer: 1..n
	var unknown sync.Map
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			stream := "w" + strconv.Itoa(w)
			for i := 1; ctx.Err() == nil; {
				_, err := l.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{draft(stream, i)}})
				switch {
				case err == nil, errors.Is(err, eventlog.ErrDuplicate):
					acknowledged[w] = i
					i++
				case errors.Is(err, eventlog.ErrUnavailable): // open: again with the same key
					unknown.Store(draft(stream, i).Key, true)
				case ctx.Err() == nil:
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	// A follower sees the same through it all.
	var followed eventlog.Head
	fctx, unfollow := context.WithCancel(t.Context())
	defer unfollow()
	caughtUp := make(chan eventlog.Head)
	go func() {
		defer close(caughtUp)
		for run, err := range l.Follow(fctx, eventlog.Head{}) {
			if err != nil {
				t.Errorf("the follower: %v", err)
				return
			}
			var bad error
			if followed, bad = eventlog.VerifyRun(followed, run); bad != nil {
				t.Error(bad)
			}
			select {
			case caughtUp <- followed:
			case <-fctx.Done():
				return
			}
		}
	}()
	var seen eventlog.Head
	for k := range kills {
		ready(t, s)
		Reconnect(client) // or it may wait for longer than the child lives
		deadline := time.After(20*time.Millisecond + rand.N(200*time.Millisecond))
		for waiting := true; waiting; {
			select {
			case seen = <-caughtUp:
			case <-deadline:
				waiting = false
			}
		}
		pid := s.PID()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "a new child", func() bool { p := s.PID(); return p != 0 && p != pid })
		if got := s.Restarts(); got < k+1 {
			t.Errorf("%d restarts after %d kills", got, k+1)
		}
	}
	ready(t, s)
	stop()
	wg.Wait()

	counts := map[string]int{}
	var at eventlog.Head
	for {
		run, err := l.Read(testContext(t, 10*time.Second), at.Seq, eventlog.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		if at, err = eventlog.VerifyRun(at, run); err != nil {
			t.Fatal(err)
		}
		if len(run) == 0 {
			break
		}
		for _, e := range run {
			counts[e.Key]++
		}
	}
	total := 0
	for w, last := range acknowledged {
		for i := 1; i <= last; i++ {
			if k := draft("w"+strconv.Itoa(w), i).Key; counts[k] != 1 {
				t.Errorf("acknowledged event %s stands %d times in the log", k, counts[k])
			}
		}
		total += last
	}
	for k, c := range counts {
		if c != 1 {
			t.Errorf("event %s stands %d times in the log", k, c)
		}
	}
	open := 0
	unknown.Range(func(any, any) bool { open++; return true })
	t.Logf("%d acknowledged, %d in the log, %d of unknown outcome resolved by their key, %d kills", total, at.Seq, open, kills)
	if total < writers*kills || open == 0 {
		t.Errorf("%d acknowledged and %d of unknown outcome: the kills did not meet the load", total, open)
	}
	for seen.Seq < at.Seq {
		select {
		case h, ok := <-caughtUp:
			if !ok {
				t.Fatal("the follower ended")
			}
			seen = h
		case <-time.After(10 * time.Second):
			t.Fatalf("the follower stays at %d of %d", seen.Seq, at.Seq)
		}
	}
	if seen != at {
		t.Errorf("the follower is at %v, the log ends with %v", seen, at)
	}
	if got := n.list(); len(got) < 2*kills || !strings.Contains(got[1], "killed") {
		t.Errorf("told %q, want up and down for each kill", got)
	}
}

// Two nodes form: learner, promotion when equal, both vote.
func TestFormPair(t *testing.T) {
	ca := solo("a", t.TempDir(), freeURL(), freeURL())
	sa, _ := start(t, ca)
	ready(t, sa)
	client := dial(t, ca)
	la := openLog(t, client)
	for i := range 300 {
		put(t, la, draft("before", i))
	}
	ctx := testContext(t, time.Minute)
	cb := solo("b", t.TempDir(), freeURL(), freeURL())

	// An attempt that was given up leaves a learner that never started.
	stale, _, err := AddLearner(ctx, client, "b", cb.PeerURL)
	if err != nil {
		t.Fatal(err)
	}
	id, members, err := AddLearner(ctx, client, "b", cb.PeerURL)
	if err != nil || id == stale {
		t.Fatalf("admitted again as %x (%v), want an ID other than %x", id, err, stale)
	}
	if len(members) != 2 || members["a"] != ca.PeerURL || members["b"] != cb.PeerURL {
		t.Fatalf("members %v", members)
	}
	cb.Members, cb.Join = members, true
	sb, _ := start(t, cb)
	ready(t, sb)
	lb := openLog(t, dial(t, cb))
	// A learner can't be asked with quorum, so it is not taken for an empty log.
	if h, err := lb.Head(ctx); err == nil && h.Seq == 0 {
		t.Error("a fresh learner answered that the log is empty")
	}
	if err := PromoteWhenEqual(ctx, client, id, nil); err != nil {
		t.Fatal(err)
	}
	if err := PromoteWhenEqual(ctx, client, id, nil); err != nil {
		t.Errorf("promoted again: %v, want nothing to do", err)
	}
	all, err := Members(ctx, client)
	if err != nil || len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" || all[0].Learner || all[1].Learner || all[1].ID != id {
		t.Fatalf("members %+v (%v), want two voters", all, err)
	}
	// b may learn a moment after a that it votes.
	within(t, 10*time.Second, "through b the head is 300", func() bool { h, err := lb.Head(ctx); return err == nil && h.Seq == 300 })
	if _, _, err := AddLearner(ctx, client, "b", cb.PeerURL); err == nil {
		t.Error("a started member was admitted a second time")
	}

	// Writers on both nodes, one log.
	var wg sync.WaitGroup
	for name, l := range map[string]*etcdlog.Log{"a": la, "b": lb} {
		wg.Go(func() {
			for i := range 100 {
				if _, err := l.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{draft(name, i)}}); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for name, l := range map[string]*etcdlog.Log{"a": la, "b": lb} {
		within(t, 10*time.Second, name+" has all events", func() bool { h, err := l.Head(ctx); return err == nil && h.Seq == 500 })
	}

	// b is gone: a can't commit, says so, and still reads.
	sb.Stop(testDone(t))
	if _, err := la.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{draft("lost", 1)}}); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append without quorum: %v, want ErrUnavailable", err)
	}
	if run, err := la.Read(ctx, 490, 100); err != nil || len(run) != 10 {
		t.Errorf("read without quorum: %d events, %v; want 10", len(run), err)
	}
	// b is back: the log goes on, and the append of unknown outcome stands or is
	// made now, once.
	sb, _ = start(t, cb)
	within(t, 20*time.Second, "the log goes on", func() bool {
		_, err := la.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{draft("lost", 1)}})
		return err == nil || errors.Is(err, eventlog.ErrDuplicate)
	})

	// b leaves for good.
	ready(t, sb)
	if err := RemoveMember(ctx, client, id); err != nil {
		t.Fatal(err)
	}
	if err := RemoveMember(ctx, client, id); err != nil {
		t.Errorf("removed again: %v, want nothing to do", err)
	}
	sb.Stop(testDone(t))
	put(t, la, draft("after", 1))
	if err := PromoteWhenEqual(ctx, client, id, nil); err == nil {
		t.Error("a member that left was promoted")
	}
}

// The agent dies, and its store with it, so the next agent finds the directory
// free.
func TestChildEndsWithItsParent(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, peer := t.TempDir(), freeURL()
	cmd := exec.Command(exe, "agent", dir, peer)
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var pid int
	if _, err := fmt.Fscanln(out, &pid); err != nil || !alive(pid) {
		t.Fatalf("the store's PID is %d: %v", pid, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	within(t, 5*time.Second, "the store ends with its agent", func() bool { return !alive(pid) })
	s, _ := start(t, solo("a", dir, peer, freeURL()))
	ready(t, s)
}

func TestChildEndsWithItsInput(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(solo("a", t.TempDir(), freeURL(), freeURL()))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, childArgs()...)
	said := &strings.Builder{}
	cmd.Stderr = said
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(in, "%s\n", config)
	var line string
	if _, err := fmt.Fscanln(out, &line); err != nil || line != readyLine {
		t.Fatalf("it said %q (%v), want %q", line, err, readyLine)
	}
	in.Close()
	began := time.Now()
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), ErrOrphaned.Error()) {
		t.Errorf("it ended with %v and said %s; want that its agent is gone", err, said)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestChildRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		in   string
		want string
	}{
		"a file":       {[]string{"--config", "x.json"}, "", "dyad agent"},
		"more":         {[]string{"--config", "-", "x"}, "", "dyad agent"},
		"unknown flag": {[]string{"--x"}, "", "not defined"},
		"no input":     {nil, "", "EOF"},
		"not JSON":     {nil, "{\n", "configuration"},
		"too long":     {nil, strings.Repeat("x", maxConfigBytes+1), "buffer full"},
		"incomplete":   {nil, "{}\n", "must be given"},
	} {
		r, w := io.Pipe()
		go io.WriteString(w, c.in) // stays open unless it says otherwise
		if c.want == "EOF" {
			w.Close()
		}
		if err := ChildMain(t.Context(), c.args, r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to say %q", name, err, c.want)
		}
		r.Close()
	}
}

// A child that dies at once is started again, ever more slowly, and told once.
func TestCrashLoop(t *testing.T) {
	n := &told{}
	s, err := Start(t.Context(), SupervisorConfig{Args: []string{"broken"}, Serve: solo("a", t.TempDir(), freeURL(), freeURL()), Notify: n.notify})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	within(t, 10*time.Second, "three restarts", func() bool { return s.Restarts() >= 3 })
	if took := time.Since(began); took < 7*RestartMin {
		t.Errorf("three restarts took %v, less than the pauses in between", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ready: %v, want it to wait in vain", err)
	}
	s.Stop(t.Context())
	if got := n.list(); len(got) != 1 || got[0] != "false exit status 1: out of luck" {
		t.Errorf("told %q, want once, with its last words", got)
	}
}

func TestStartRefuses(t *testing.T) {
	good := solo("a", t.TempDir(), freeURL(), freeURL())
	for name, change := range map[string]func(*ServeConfig){
		"no name":             func(c *ServeConfig) { c.Name = "" },
		"no directory":        func(c *ServeConfig) { c.Dir = "" },
		"client for all":      func(c *ServeConfig) { c.ClientURL = "http://10.0.0.1:2379" },
		"client anywhere":     func(c *ServeConfig) { c.ClientURL = "http://0.0.0.0:2379" },
		"peer by name":        func(c *ServeConfig) { c.PeerURL = "http://node-a:2380"; c.Members = map[string]string{"a": c.PeerURL} },
		"peer without scheme": func(c *ServeConfig) { c.PeerURL = "127.0.0.1:2380"; c.Members = map[string]string{"a": c.PeerURL} },
		"not a member":        func(c *ServeConfig) { c.Members = map[string]string{"b": c.PeerURL} },
		"quick election":      func(c *ServeConfig) { c.Election = 4 * c.Heartbeat },
		"slow election":       func(c *ServeConfig) { c.Election = time.Minute },
	} {
		c := good
		change(&c)
		if _, err := Start(t.Context(), SupervisorConfig{Serve: c}); err == nil {
			t.Errorf("%s: started", name)
		}
		if err := Serve(t.Context(), c); err == nil {
			t.Errorf("%s: served", name)
		}
	}
	if _, err := Start(t.Context(), SupervisorConfig{Exe: filepath.Join(t.TempDir(), "none"), Serve: good}); err == nil || !strings.Contains(err.Error(), "start the store") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// A store that can't use its directory says so and takes nothing else down.
func TestStoreOnFullDisk(t *testing.T) {
	dir := mount(t, "size=300k", 0)
	s, n := start(t, solo("a", dir, freeURL(), freeURL()))
	within(t, 20*time.Second, "the store gives up", func() bool { return len(n.list()) > 0 })
	if got := n.list()[0]; !strings.HasPrefix(got, "false ") || !strings.Contains(got, "no space left on device") {
		t.Errorf("told %q, want that there is no space", got)
	}
	within(t, 10*time.Second, "it is tried again", func() bool { return s.Restarts() > 0 })
}
