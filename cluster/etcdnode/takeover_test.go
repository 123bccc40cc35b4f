package etcdnode

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/datadir"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// side is one node of a pair under test.
type side struct {
	c      ServeConfig
	dir    string // its data directory; the store lies below
	s      *Supervisor
	client *clientv3.Client
	l      *etcdlog.Log
}

// pair forms two voters: a leads.
func pair(t *testing.T) (a, b *side) {
	t.Helper()
	a, b = &side{dir: t.TempDir()}, &side{dir: t.TempDir()}
	a.c, b.c = solo("a", a.dir, freeURL(), freeURL()), solo("b", b.dir, freeURL(), freeURL())
	a.s, _ = start(t, a.c)
	ready(t, a.s)
	a.client = dial(t, a.c)
	join(t, a, b)
	a.l, b.l = openLog(t, a.client), openLog(t, b.client)
	return a, b
}

// join lets b's node come to a's with an empty directory.
func join(t *testing.T, a, b *side) {
	t.Helper()
	ctx := testContext(t, 30*time.Second)
	id, members, err := Readmit(ctx, a.client, b.c.Name, b.c.PeerURL)
	if err != nil {
		t.Fatal(err)
	}
	b.c.Members, b.c.Join, b.c.Force = members, true, 0
	if b.s == nil {
		b.s, _ = start(t, b.c)
	} else if err := b.s.Restart(ctx, b.c); err != nil {
		t.Fatal(err)
	}
	if b.client == nil {
		b.client = dial(t, b.c)
	}
	if err := PromoteWhenEqual(ctx, a.client, id, nil); err != nil {
		t.Fatal(err)
	}
	ready(t, b.s)
}

func (n *side) kill(t *testing.T) {
	t.Helper()
	pid := n.s.PID()
	if err := n.s.Kill(testContext(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if pid != 0 && alive(pid) || n.s.PID() != 0 {
		t.Fatalf("after Kill process %d lives", pid)
	}
}

// takeover starts n's store as one of its own.
func (n *side) takeover(t *testing.T, epoch eventlog.Epoch) Tail {
	t.Helper()
	tail, err := KeepTail(n.c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	n.c.Force = epoch
	if err := n.s.Restart(testContext(t, 5*time.Second), n.c); err != nil {
		t.Fatal(err)
	}
	ready(t, n.s)
	Reconnect(n.client)
	return tail
}

// lastAckOnly appends n events through a, and kills both right after the last
// answer, so that b can't have learned that it is committed.
func lastAckOnly(t *testing.T, a, b *side, n int) {
	t.Helper()
	for i := range n {
		put(t, a.l, draft("x", i))
	}
	_ = syscall.Kill(a.s.PID(), syscall.SIGKILL)
	_ = syscall.Kill(b.s.PID(), syscall.SIGKILL)
	a.kill(t)
	b.kill(t)
}

func all(t *testing.T, l eventlog.Log) []eventlog.Envelope {
	t.Helper()
	var out []eventlog.Envelope
	var at eventlog.Head
	for {
		run, err := l.Read(testContext(t, 10*time.Second), at.Seq, eventlog.MaxPage)
		if err == nil {
			at, err = eventlog.VerifyRun(at, run)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(run) == 0 {
			return out
		}
		out = append(out, run...)
	}
}

// What the follower acknowledged last survives a takeover, which can be repeated
// at every step.
func TestTakeoverKeepsTheTail(t *testing.T) {
	a, b := pair(t)
	lastAckOnly(t, a, b, 50)
	before, err := ReadTail(b.c.Dir)
	if err != nil || before.Last <= before.Commit || len(before.Voters) != 2 || before.Changed() == false {
		t.Fatalf("read %+v, %v; want a tail that is not known to be committed, and two voters", before, err)
	}
	tail, err := KeepTail(b.c.Dir)
	if err != nil || tail.Kept != tail.Last || tail.Commit != before.Commit || tail.Cut {
		t.Fatalf("kept %+v, %v", tail, err)
	}
	again, err := KeepTail(b.c.Dir)
	if err != nil || again.Changed() || again.Commit != tail.Last {
		t.Errorf("kept again: %+v, %v; want nothing to do", again, err)
	}
	b.takeover(t, 2)
	if got := all(t, openLog(t, b.client)); len(got) != 50 {
		t.Errorf("%d events after the takeover, want 50", len(got))
	}
	put(t, openLog(t, b.client), draft("sole", 1))
	known, err := Members(t.Context(), b.client)
	if err != nil || len(known) != 1 || known[0].Name != "b" {
		t.Errorf("members %+v, %v; want b alone", known, err)
	}

	// The configuration stays, and a later start of it throws nobody out.
	if err := os.Rename(a.c.Dir, a.c.Dir+".old"); err != nil {
		t.Fatal(err)
	}
	join(t, b, a)
	if b.c.Force != 2 {
		t.Fatal("this test must restart with the forced configuration")
	}
	_ = syscall.Kill(b.s.PID(), syscall.SIGKILL) // the supervisor starts it again
	within(t, 20*time.Second, "the pair goes on", func() bool {
		l, err := etcdlog.Open(b.client, etcdlog.Options{CallTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft("pair", 1)}})
		return err == nil || errors.Is(err, eventlog.ErrDuplicate)
	})
	if known, err = Members(t.Context(), b.client); err != nil || len(known) != 2 {
		t.Errorf("members %+v, %v; want that a restart after the takeover threw nobody out", known, err)
	}
	if got := all(t, openLog(t, a.client)); len(got) != 52 {
		t.Errorf("%d events at the node that came back, want 52", len(got))
	}
}

// Of two voters the one that starts alone answers nothing. Its disk knows that
// there is another one, until it is the only one.
func TestSharedIsKnownWithoutAnAnswer(t *testing.T) {
	a, b := pair(t)
	lastAckOnly(t, a, b, 1)
	if err := b.s.Restart(testContext(t, 5*time.Second), b.c); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the store to run", func() bool { return b.s.PID() != 0 })
	if r, err := ReadRoster(testContext(t, 2*time.Second), b.client, b.c.Name, nil); err == nil {
		t.Errorf("it answers %+v: then the disk need not be asked", r)
	}
	if shared, err := Shared(b.c.Dir); !shared || err != nil {
		t.Errorf("shared %v, %v", shared, err)
	}
	b.kill(t)
	b.takeover(t, 2)
	if shared, err := Shared(b.c.Dir); shared || err != nil {
		t.Errorf("the only voter: shared %v, %v", shared, err)
	}
	if _, err := Shared(t.TempDir()); !errors.Is(err, ErrNoStore) {
		t.Errorf("an empty directory: %v", err)
	}
}

// What was begun anew is seen in the store itself, also before it is noted; not so
// where the store may have been its member's alone before.
func TestBegun(t *testing.T) {
	a, b := pair(t)
	lastAckOnly(t, a, b, 3)
	is := func(voted, want bool) {
		t.Helper()
		if got, err := Begun(b.c.Dir, 2, voted); err != nil || got != want {
			t.Errorf("begun %v, %v; want %v", got, err, want)
		}
	}
	is(true, false)
	b.takeover(t, 2)
	b.kill(t)
	is(true, true)
	is(false, true)
	if err := os.Remove(filepath.Join(b.c.Dir, forcedFile)); err != nil {
		t.Fatal(err)
	}
	is(true, true)
	is(false, false)
	if _, err := Begun(t.TempDir(), 2, true); !errors.Is(err, ErrNoStore) {
		t.Errorf("without a store: %v", err)
	}
}

// The child is killed during the forced start, and the agent with it: whoever
// comes next begins again at KeepTail.
func TestTakeoverBrokenOff(t *testing.T) {
	a, b := pair(t)
	lastAckOnly(t, a, b, 20)
	for i := range 6 {
		if _, err := KeepTail(b.c.Dir); err != nil {
			t.Fatal(err)
		}
		b.c.Force = 2
		if err := b.s.Restart(testContext(t, 5*time.Second), b.c); err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Duration(10+15*i)*time.Millisecond)
		_ = b.s.WaitReady(soon)
		cancel()
		b.kill(t)
	}
	b.takeover(t, 2)
	if got := all(t, openLog(t, b.client)); len(got) != 20 {
		t.Errorf("%d events after the takeover, want 20", len(got))
	}
}

func TestKeepTailRefuses(t *testing.T) {
	if _, err := KeepTail(t.TempDir()); !errors.Is(err, ErrNoStore) {
		t.Errorf("an empty directory: %v, want ErrNoStore", err)
	}
	c := solo("a", t.TempDir(), freeURL(), freeURL())
	c.Force = 1
	if err := Serve(t.Context(), c); !errors.Is(err, ErrNoStore) {
		t.Errorf("forced on an empty directory: %v, want ErrNoStore", err)
	}
	sa, _ := start(t, solo("a", t.TempDir(), freeURL(), freeURL()))
	ready(t, sa)
	client := dial(t, sa.cfg.Serve)
	cb := solo("b", t.TempDir(), freeURL(), freeURL())
	_, members, err := AddLearner(testContext(t, 10*time.Second), client, "b", cb.PeerURL)
	if err != nil {
		t.Fatal(err)
	}
	cb.Members, cb.Join = members, true
	sb, _ := start(t, cb)
	ready(t, sb)
	sb.Stop(testDone(t))
	if _, err := KeepTail(cb.Dir); !errors.Is(err, ErrNotVoter) {
		t.Errorf("a learner: %v, want ErrNotVoter", err)
	}
}

// A torn record at the end is cut off, and everything before it kept.
func TestKeepTailTorn(t *testing.T) {
	a, b := pair(t)
	lastAckOnly(t, a, b, 30)
	whole, err := ReadTail(b.c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	tear(t, b.c.Dir)
	torn, err := ReadTail(b.c.Dir)
	if err != nil || torn.Last >= whole.Last+1 {
		t.Fatalf("read %+v, %v", torn, err)
	}
	tail, err := KeepTail(b.c.Dir)
	if err != nil || !tail.Repaired || tail.Kept != torn.Last {
		t.Fatalf("kept %+v, %v; want a repaired tail that ends with %d", tail, err, torn.Last)
	}
	if tail, err = KeepTail(b.c.Dir); err != nil || tail.Changed() {
		t.Errorf("kept again: %+v, %v; want nothing to do", tail, err)
	}
	b.takeover(t, 2)
	if got := all(t, openLog(t, b.client)); len(got) < 29 {
		t.Errorf("%d events after the takeover, want at least 29 of 30", len(got))
	}
}

// tear cuts the last record of the store's log in two.
func tear(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(datadir.ToWALDir(dir), "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	slices.Sort(files)
	last := files[len(files)-1]
	content, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	// Records are padded with up to 7 zeros; cut well into the last one.
	end := len(bytes.TrimRight(content, "\x00"))
	if err := os.Truncate(last, int64(end-6)); err != nil {
		t.Fatal(err)
	}
}

// One supervisor is commanded from several sides; what runs is what was ordered
// last, and nothing runs while told so.
func TestSupervisorObeys(t *testing.T) {
	c := solo("a", t.TempDir(), freeURL(), freeURL())
	n := &told{}
	s, err := Start(t.Context(), SupervisorConfig{Serve: c, Halted: true, Notify: n.notify})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(testDone(t)) })
	ctx := testContext(t, 20*time.Second)
	if err := s.Kill(ctx); err != nil || s.PID() != 0 {
		t.Fatalf("killed before it ever ran: %v, pid %d", err, s.PID())
	}
	if err := s.Restart(ctx, ServeConfig{}); err == nil {
		t.Error("restarted with an empty configuration")
	}
	if err := s.Restart(ctx, c); err != nil {
		t.Fatal(err)
	}
	ready(t, s)
	first := s.PID()
	if err := s.Restart(ctx, c); err != nil {
		t.Fatal(err)
	}
	if alive(first) {
		t.Error("the old child lives beside the new one")
	}
	ready(t, s)
	if s.PID() == first || s.PID() == 0 || s.Restarts() != 1 {
		t.Errorf("pid %d after %d, %d restarts; want another child", s.PID(), first, s.Restarts())
	}
	if err := s.Kill(ctx); err != nil || s.PID() != 0 {
		t.Errorf("killed: %v, pid %d", err, s.PID())
	}
	soon, cancel := context.WithTimeout(ctx, 3*RestartMin)
	defer cancel()
	if err := s.WaitReady(soon); !errors.Is(err, context.DeadlineExceeded) || s.PID() != 0 {
		t.Errorf("ready: %v, pid %d; want that nothing is started", err, s.PID())
	}
	if got, want := strings.Join(n.list(), "; "), "false told not to run; true ready; false told not to run; true ready; false told not to run"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}

	var wg sync.WaitGroup
	var replaced atomic.Int32
	for i := range 12 {
		wg.Go(func() {
			err := s.Kill(ctx)
			if i%2 == 0 {
				err = s.Restart(ctx, c)
			}
			if errors.Is(err, errReplaced) {
				replaced.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Restart(ctx, c); err != nil {
		t.Fatal(err)
	}
	ready(t, s)
	s.Stop(ctx)
	if err := s.Restart(ctx, c); err == nil {
		t.Error("a stopped supervisor was restarted")
	}
	if err := s.Kill(ctx); err != nil {
		t.Errorf("killed after the stop: %v, want nothing to do", err)
	}
}
