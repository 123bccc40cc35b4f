package labtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cluster/quorum"
	"dyad/projections"
)

// TestDamageCases are about what lies on the disk, and about what is started.
func TestDamageCases(t *testing.T) {
	long(t)
	s := newStage(t, nil, nil)
	s.play("torn tail of the dead node's log", func(s *stage) {
		s.write(nodeA)
		s.off(nodeB)
		path, end := s.walEnd(nodeB)
		s.ok(os.Truncate(path, end-3))
		s.on(nodeB)
		s.paired()
		s.write(nodeB)
		s.story("")
	})
	s.play("torn tail of the node that takes over", func(s *stage) {
		s.write(nodeA)
		s.off(nodeB)
		s.mode(nodeA, quorum.Suspended, false)
		s.off(nodeA)
		// A record that was being written: its length is there, and not its end.
		path, end := s.walEnd(nodeA)
		end = align(end)
		s.ok(os.Truncate(path, end))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		s.ok(err)
		_, err = f.Write([]byte{0, 4, 0, 0, 0, 0, 0, 0, 8, 2, 16, 1})
		s.ok(errors.Join(err, f.Close()))
		s.on(nodeA)
		s.says(nodeA, quorum.Stale, "--accept-loss")
		s.takeOver(nodeA, "--accept-loss")
		s.write(nodeA)
		s.on(nodeB)
		s.paired()
		s.story(quorum.ByOperator, quorum.Sole, quorum.Pair)
	})
	s.play("a flipped byte in the log", func(s *stage) {
		s.write(nodeA)
		s.off(nodeB)
		s.flip(nodeB)
		s.on(nodeB)
		s.recover(nodeB)
	})
	s.play("wiped store", func(s *stage) {
		s.write(nodeA)
		s.off(nodeB)
		s.ok(os.RemoveAll(filepath.Join(s.data(nodeB), "store")))
		s.on(nodeB)
		s.recover(nodeB)
	})
	s.play("another cluster's store", func(s *stage) {
		s.write(nodeA)
		s.off(nodeB)
		s.foreignStore(nodeB)
		s.on(nodeB)
		n, err := s.Node(nodeB)
		s.ok(err)
		s.eventually("the agent to refuse it", func() string {
			b, err := os.ReadFile(filepath.Join(n.Dir, "agent.log"))
			if err != nil || !bytes.Contains(b, []byte("belongs to "+nodeB+" of cluster")) {
				return fmt.Sprintf("its log says nothing of it: %v", err)
			}
			return ""
		})
		s.readOnly(3*caseHoldDown, nodeB)
		s.off(nodeB)
		s.ok(os.RemoveAll(filepath.Join(s.data(nodeB), "store")))
		s.on(nodeB)
		s.recover(nodeB)
	})
	s.play("both stop at once", bothStop)
	s.play("double start", func(s *stage) {
		n, err := s.Node(nodeB)
		s.ok(err)
		pid := s.status(nodeB).PID
		code, out := s.dyad(nodeB, "agent", "--config", n.Config)
		if code == 0 || !strings.Contains(out, fmt.Sprint(pid)) {
			s.t.Errorf("a second agent: exit %d, want a word of process %d\n%s", code, pid, out)
		}
		s.write(nodeB)
		if now := s.status(nodeB).PID; now != pid {
			s.t.Errorf("the first agent is process %d now, was %d", now, pid)
		}
		s.story("")
	})
	s.play("another release on one node", otherRelease)
	s.play("disk full", diskFull)
	s.play("slow fsync", func(s *stage) {
		s.t.Skip("nothing honest slows one node's fsync here: there is no device mapper (dm-delay) to put below its directory, and the store must not have a switch that makes it slow")
	})
	s.play("clock jumped by an hour", func(s *stage) {
		s.t.Skip("a process can't have a wall clock of its own here: time namespaces shift only the monotonic clock, and setting the machine's would hit everything on it")
	})
}

// recover is the way back of a node whose store is of no use. Until a person
// decides, nobody writes; then the other node goes on alone and takes it in.
func (s *stage) recover(node string) {
	s.t.Helper()
	peer := lab.Other(node)
	s.readOnly(3*caseHoldDown, node)
	s.t.Logf("%s: %s", node, s.status(node).Why)
	s.t.Logf("%s: %s", peer, s.status(peer).Why)
	s.off(node)
	s.eventually(peer+" to miss "+node, func() string {
		if st := s.status(peer); st.View.Nodes[node] == projections.Alive {
			return "it hears it"
		}
		return ""
	})
	s.takeOver(peer)
	s.write(peer)
	s.on(node)
	s.paired()
	s.write(node)
	s.story(quorum.ByOperator, quorum.Sole, quorum.Pair)
}

// walEnd finds the newest file of a node's log, and where its data ends: the rest
// is preallocated zeros.
func (s *stage) walEnd(node string) (string, int64) {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.data(node), "store", "member", "wal", "*.wal"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("no log of %s: %v", node, err)
	}
	slices.Sort(files)
	path := files[len(files)-1]
	b, err := os.ReadFile(path)
	s.ok(err)
	return path, int64(len(bytes.TrimRight(b, "\x00")))
}

// align is the next frame of a log: frames are padded to eight bytes.
func align(n int64) int64 { return (n + 7) / 8 * 8 }

// flip changes a byte in the middle of what a node's log holds.
func (s *stage) flip(node string) {
	s.t.Helper()
	path, end := s.walEnd(node)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	s.ok(err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, end/2)
	s.ok(err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, end/2)
	s.ok(errors.Join(err, f.Close()))
}

// foreignStore puts the store of a cluster of its own, of a node of the same
// name, in the place of a node's store.
func (s *stage) foreignStore(node string) {
	s.t.Helper()
	n, err := s.Node(node)
	s.ok(err)
	dir := filepath.Join(s.Dir, node, "foreign")
	text, err := os.ReadFile(n.Config)
	s.ok(err)
	conf := filepath.Join(s.Dir, node, "foreign.yaml")
	s.ok(os.WriteFile(conf, bytes.ReplaceAll(text, []byte(s.data(node)), []byte(dir)), 0o600))
	s.must(node, "init", "--config", conf)
	cmd := exec.Command(s.Binary, "agent", "--config", conf)
	p, err := netlab.Detach(n.NS, cmd, filepath.Join(s.Dir, node, "foreign.log"))
	s.ok(err)
	s.mode(node, quorum.Solo, true)
	s.ok(p.KillTree())
	s.ok(os.RemoveAll(filepath.Join(s.data(node), "store")))
	s.ok(os.Rename(filepath.Join(dir, "store"), filepath.Join(s.data(node), "store")))
}

// bothStop: both are told to stop at the same moment. One of them may hand over
// to the other, and nobody's hand-over may leave the log without a writer.
func bothStop(s *stage) {
	s.write(nodeA)
	var wg sync.WaitGroup
	for _, node := range lab.NodeNames() {
		wg.Go(func() {
			if err := s.Shutdown(s.ctx(), node); err != nil {
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
	s.t.Logf("node-a %s", s.state(nodeA))
	s.t.Logf("node-b %s", s.state(nodeB))
	s.on(nodeA)
	s.on(nodeB)
	s.paired()
	s.write(nodeB)
}

// otherRelease: the nodes differ by a minor release while one is upgraded.
func otherRelease(s *stage) {
	other := filepath.Join(s.t.TempDir(), "dyad")
	out, err := exec.Command("go", "build", "-ldflags", "-X dyad/cmd/dyad/cli.Version=99.1.0", "-o", other, "dyad/cmd/dyad").CombinedOutput()
	if err != nil {
		s.t.Fatalf("build another release: %v\n%s", err, out)
	}
	s.write(nodeA)
	s.ok(s.Shutdown(s.ctx(), nodeB))
	s.ok(s.PowerOn(nodeB, other))
	s.paired()
	s.write(nodeA)
	s.write(nodeB)
	if a, b := s.status(nodeA).Version, s.status(nodeB).Version; b != "99.1.0" || a == b {
		s.t.Errorf("the nodes run %s and %s", a, b)
	}
	s.ok(s.Shutdown(s.ctx(), nodeB))
	s.on(nodeB)
}

// diskFull: a node's data directory has no room left. What was answered stays,
// what can't be kept is refused, and the announcements go on.
func diskFull(s *stage) {
	s.write(nodeA)
	s.off(nodeB)
	data := s.data(nodeB)
	aside := data + ".aside"
	s.ok(os.Rename(data, aside))
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
	s.holds(5*caseHoldDown, "both agents run", func() string {
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
	s.holds(3*caseHoldDown, "the other node runs", func() string {
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
