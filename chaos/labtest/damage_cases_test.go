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

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cluster/quorum"
	"dyad/projections"
)

// TestDamageCases are about what lies on the disk, and about what is started.
func TestDamageCases(t *testing.T) {
	s := newStage(t, nil, nil)
	other := buildOther(t)
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
		s.readOnly(2*caseHoldDown, nodeB)
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
	s.play("another release on one node", func(s *stage) {
		binary, err := other()
		s.ok(err)
		s.otherRelease(binary)
	})
}

// recover is the way back of a node whose store is of no use. Until a person
// decides, nobody writes; then the other node goes on alone and takes it in.
func (s *stage) recover(node string) {
	s.t.Helper()
	peer := lab.Other(node)
	s.readOnly(2*caseHoldDown, node)
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

// buildOther builds another release while cases are played; the returned function
// waits for it.
func buildOther(t *testing.T) func() (string, error) {
	path := filepath.Join(t.TempDir(), "dyad")
	built := make(chan error, 1)
	go func() {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X dyad/cmd/dyad/cli.Version=99.1.0", "-o", path, "dyad/cmd/dyad")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("build another release: %w\n%s", err, out)
		}
		built <- err
	}()
	wait := sync.OnceValues(func() (string, error) { return path, <-built })
	t.Cleanup(func() { _, _ = wait() })
	return wait
}

// otherRelease: the nodes differ by a minor release while one is upgraded.
func (s *stage) otherRelease(other string) {
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
