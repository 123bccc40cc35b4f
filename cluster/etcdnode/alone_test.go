package etcdnode

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"dyad/eventlog"
)

// alone lets n's running store go on alone, and checks that it is the same
// process.
func (n *side) alone(t *testing.T, epoch eventlog.Epoch) {
	t.Helper()
	if err := n.s.Part(testContext(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	pid := n.s.PID()
	began := time.Now()
	if err := n.s.GoAlone(testContext(t, 5*time.Second), epoch); err != nil {
		t.Fatal(err)
	}
	t.Logf("alone after %s", time.Since(began))
	if now := n.s.PID(); now != pid {
		t.Errorf("process %d became %d", pid, now)
	}
	members, err := Members(testContext(t, 5*time.Second), n.client)
	if err != nil || len(members) != 1 || members[0].Name != n.c.Name {
		t.Errorf("members %v, %v", members, err)
	}
	if last, err := forced(n.c.Dir); err != nil || last != epoch {
		t.Errorf("noted epoch %d, %v; want %d", last, err, epoch)
	}
}

// A running store goes on alone with everything that was acknowledged, whether
// it led or followed, also what it had not learnt to be committed.
func TestGoAlone(t *testing.T) {
	for _, dies := range []string{"the leader", "the follower"} {
		t.Run(dies, func(t *testing.T) {
			leader, follower := pair(t)
			dead, left := leader, follower
			if dies == "the follower" {
				dead, left = follower, leader
			}
			for i := range 20 {
				put(t, leader.l, draft("x", i))
			}
			_ = syscall.Kill(dead.s.PID(), syscall.SIGKILL)
			dead.kill(t)
			left.alone(t, 2)
			for i := range 20 {
				put(t, left.l, draft("x", 20+i))
			}
			if got := all(t, left.l); len(got) != 40 {
				t.Errorf("%d events, want 40", len(got))
			}
			// Whatever is started from here on is one of one: with the
			// configuration of the pair, and by force for the same epoch.
			for _, epoch := range []eventlog.Epoch{0, 2} {
				left.c.Force = epoch
				if err := left.s.Restart(testContext(t, 5*time.Second), left.c); err != nil {
					t.Fatal(err)
				}
				ready(t, left.s)
				Reconnect(left.client)
				if got := all(t, openLog(t, left.client)); len(got) != 40 {
					t.Errorf("%d events after a restart with force %d, want 40", len(got), epoch)
				}
			}
			if begun, err := Begun(left.c.Dir, 2, true); err != nil || !begun {
				t.Errorf("begun %v, %v", begun, err)
			}
			if _, err := Archive(dead.dir, dead.c.Dir, 1, time.Now()); err != nil {
				t.Fatal(err)
			}
			join(t, left, dead)
			dead.kill(t)
			left.alone(t, 3)
		})
	}
}

// A store that was being taken out when it lost the other one does not go on:
// that may have been committed.
func TestGoAloneNotWhenRemoved(t *testing.T) {
	a, b := pair(t)
	put(t, a.l, draft("x", 1))
	members, err := Members(testContext(t, 5*time.Second), a.client)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(members, func(m Member) bool { return m.Name == "a" })
	// The follower stands still, so what the leader appends stays open.
	if err := syscall.Kill(b.s.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t, 300*time.Millisecond)
	_, err = a.client.MemberRemove(ctx, members[i].ID)
	if err == nil {
		t.Fatal("the removal was committed by one of two")
	}
	b.kill(t)
	err = a.s.GoAlone(testContext(t, 5*time.Second), 2)
	if !errors.Is(err, ErrNotAlone) {
		t.Fatalf("%v, want %v", err, ErrNotAlone)
	}
	t.Log(err)
	a.kill(t)
	tail, err := ReadTail(a.c.Dir)
	if err != nil || !tail.Cut {
		t.Errorf("tail %v, %v; want one that is cut", tail, err)
	}
}

// Only a running voter goes on alone.
func TestGoAloneNeedsAStore(t *testing.T) {
	a, b := pair(t)
	b.kill(t)
	if err := b.s.GoAlone(testContext(t, 5*time.Second), 2); !errors.Is(err, ErrNotAlone) {
		t.Errorf("without a process: %v", err)
	}
	a.alone(t, 2)
	if _, err := Archive(b.dir, b.c.Dir, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, b.c.Members, _ = AddLearner(testContext(t, 10*time.Second), a.client, "b", b.c.PeerURL); len(b.c.Members) != 2 {
		t.Fatal(fmt.Sprint(b.c.Members))
	}
	b.c.Join = true
	if err := b.s.Restart(testContext(t, 5*time.Second), b.c); err != nil {
		t.Fatal(err)
	}
	ready(t, b.s)
	if err := b.s.GoAlone(testContext(t, 5*time.Second), 3); !errors.Is(err, ErrNotAlone) {
		t.Errorf("a learner: %v", err)
	}
}

// What is parted writes nothing, with whomever, and a restart undoes it.
func TestPart(t *testing.T) {
	a, b := pair(t)
	put(t, a.l, draft("x", 1))
	if err := b.s.Part(testContext(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.l.Append(testContext(t, time.Second), eventlog.Batch{Drafts: []eventlog.Draft{draft("x", 2)}}); err == nil {
		t.Error("the pair wrote, and one of the two was parted")
	}
	if err := b.s.Restart(testContext(t, 5*time.Second), b.c); err != nil {
		t.Fatal(err)
	}
	ready(t, b.s)
	put(t, a.l, draft("x", 3))
}
