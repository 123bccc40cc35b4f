package labtest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos/lab"
	"dyad/cluster/quorum"
	"dyad/eventlog"
)

// slowSync is how long each fsync of a slow disk takes.
const slowSync = 200 * time.Millisecond

// TestHostCases are about a host that has no room, a slow disk, a wrong clock.
func TestHostCases(t *testing.T) {
	s := newStage(t, nil, nil)
	s.play("disk full", diskFull)
	s.play("slow fsync", slowDisk)
	s.play("clock jumped by an hour", clockJumped)
}

// stays demands for a while that nobody goes on alone, and that no silence was
// seen that is longer than a pulse on a busy machine may miss.
func (s *stage) stays(d time.Duration) {
	s.t.Helper()
	from := s.status(nodeA).Head.Seq
	s.holds(d, "nobody goes on alone", func() string {
		for _, n := range lab.NodeNames() {
			if m := s.status(n).Mode; m != string(quorum.Pair) && m != string(quorum.Suspended) {
				return n + " is " + m
			}
		}
		return ""
	})
	s.paired()
	for _, e := range s.events(nodeA) {
		var v eventlog.VerdictPayload
		if e.Seq <= from || e.Type != eventlog.TypeNodeVerdict {
			continue
		}
		if s.ok(json.Unmarshal(e.Data, &v)); v.Silence > time.Second {
			s.t.Errorf("%s took %s for %s after a silence of %s", e.Source.Node, v.Node, v.Verdict, v.Silence)
		}
	}
}

// slowDisk: each fsync of a node takes very long. Changes take as long, and
// nothing else changes; the node can also go on alone, slowly.
func slowDisk(s *stage) {
	s.off(nodeB)
	bend := s.onWarped(nodeB, warp{})
	s.paired()
	end := s.announced()
	bend(warp{fsync: slowSync})
	began := time.Now()
	s.write(nodeA)
	s.write(nodeB)
	if took := time.Since(began); took < 2*caseWrites*slowSync {
		s.t.Errorf("%d writes of a pair took %s: they did not wait for the slow disk", 2*caseWrites, took)
	}
	s.stays(2 * caseHoldDown)
	s.off(nodeA)
	s.mode(nodeB, quorum.Suspended, false)
	s.takeOver(nodeB)
	s.write(nodeB)
	bend(warp{})
	s.on(nodeA)
	s.paired()
	s.write(nodeA)
	end()
	s.off(nodeB)
	s.on(nodeB)
	s.paired()
	s.story(quorum.ByOperator, quorum.Sole, quorum.Pair)
}

// clockJumped: a node's wall clock jumps an hour ahead, and two back. Its events
// carry the wrong time, and nothing else changes: not while it runs, nor when it
// starts and goes on alone with the wrong time.
func clockJumped(s *stage) {
	s.off(nodeB)
	bend := s.onWarped(nodeB, warp{})
	s.paired()
	end := s.announced()
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		bend(warp{clock: off})
		s.write(nodeA)
		s.write(nodeB)
		wrong := s.acks[len(s.acks)-1]
		s.stays(2 * caseHoldDown)
		if e := s.event(wrong.seq); time.Until(e.Time).Round(10*time.Minute) != off {
			s.t.Errorf("event %d of a node whose clock is off by %s is of %s, now it is %s", e.Seq, off, e.Time, time.Now())
		}
	}
	end()
	s.off(nodeB)
	s.onWarped(nodeB, warp{clock: -time.Hour}) // as early as its certificate allows
	s.paired()
	s.write(nodeB)
	s.off(nodeA)
	s.mode(nodeB, quorum.Suspended, false)
	s.takeOver(nodeB)
	s.write(nodeB)
	s.on(nodeA)
	s.paired()
	s.write(nodeA)
	s.off(nodeB)
	s.on(nodeB)
	s.paired()
	s.story(quorum.ByOperator, quorum.Sole, quorum.Pair)
}

// event is one event of the log.
func (s *stage) event(seq eventlog.Seq) eventlog.Public {
	s.t.Helper()
	for _, e := range s.events(nodeA) {
		if e.Seq == seq {
			return e
		}
	}
	s.t.Fatalf("no event %d", seq)
	return eventlog.Public{}
}

// diskFull: a node's data directory has no room left. What was answered stays,
// what can't be kept is refused, and the announcements go on.
func diskFull(s *stage) {
	s.write(nodeA)
	s.off(nodeB)
	data := s.data(nodeB)
	aside := data + ".aside"
	s.ok(os.Rename(data, aside))
	// What earlier cases set aside takes as much room as the store each.
	s.ok(os.RemoveAll(filepath.Join(aside, "archive")))
	s.ok(os.Mkdir(data, 0o700))
	s.ok(unix.Mount("tmpfs", data, "tmpfs", 0, "size=384m,mode=700"))
	s.group.Cleanup(func() { _ = unix.Unmount(data, unix.MNT_DETACH) })
	s.ok(os.CopyFS(data, os.DirFS(aside)))
	s.on(nodeB)
	s.paired()
	s.write(nodeB)
	end := s.announced()
	defer end()
	ballast := filepath.Join(data, "ballast")
	s.ok(fill(ballast))
	answered := len(s.acks)
	s.trySome()()
	s.t.Logf("without room: %d of 8 commands answered; %s", len(s.acks)-answered, s.status(nodeB).Why)
	s.holds(2*caseHoldDown, "both agents run", func() string {
		for _, n := range lab.NodeNames() {
			if s.status(n).PID == 0 {
				return n + " does not answer"
			}
		}
		return ""
	})
	s.eventually(nodeB+" to say that its journal has no room", func() string {
		for _, c := range s.status(nodeB).Conditions {
			if c.Code == "journal-failing" && strings.Contains(c.Text, "free") {
				return ""
			}
		}
		return "it does not"
	})
	s.off(nodeB) // and a start without any room
	s.on(nodeB)
	s.holds(2*caseHoldDown, "the other node runs", func() string {
		if s.status(nodeA).PID == 0 {
			return "it does not answer"
		}
		return ""
	})
	s.t.Logf("started without room: %+v", s.status(nodeB).Why)
	s.ok(os.Remove(ballast))
	s.paired()
	s.write(nodeB)
	s.write(nodeA)
	s.off(nodeB)
	s.ok(os.RemoveAll(aside))
	s.ok(os.CopyFS(aside, os.DirFS(data)))
	s.ok(unix.Unmount(data, unix.MNT_DETACH))
	s.ok(os.Remove(data))
	s.ok(os.Rename(aside, data))
	s.on(nodeB)
	s.paired()
	s.story("")
}

// fill writes until there is no room left.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}
