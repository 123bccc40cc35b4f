package labtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos/lab"
	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// TestWitnessCases are the cases in which a third party decides.
func TestWitnessCases(t *testing.T) {
	s := newStage(t, nil, func(s *stage) {
		url, err := s.StartWitness(s.ctx())
		s.ok(err)
		s.must(nodeA, "witness", "add", url)
		s.witnessKnows()
	})
	s.play("peer crash", func(s *stage) {
		s.write(nodeA)
		end := s.announced()
		defer end()
		s.off(nodeA)
		s.mode(nodeB, quorum.Sole, true)
		s.write(nodeB)
		s.on(nodeA)
		s.paired()
		s.write(nodeA)
		s.story(quorum.ByWitness, quorum.Sole, quorum.Pair)
		s.witnessKnows()
	})
	s.play("interconnect cut, nobody asks the witness", func(s *stage) {
		linkCut(s)
		s.witnessKnows()
	})
	s.play("parted, both reach the witness", func(s *stage) {
		s.split(s.Part, "")
	})
	s.play("both paths of one node cut", func(s *stage) {
		s.split(func() error { return s.Cut(nodeB, lab.LinkCluster, lab.LinkRouter) }, nodeA)
	})
	s.play("both crash, one of a pair returns", func(s *stage) {
		s.write(nodeB)
		s.off(nodeA)
		s.off(nodeB)
		s.on(nodeB)
		s.mode(nodeB, quorum.Sole, true)
		s.write(nodeB)
		s.on(nodeA)
		s.paired()
		s.story(quorum.ByWitness, quorum.Sole, quorum.Pair)
	})
	s.play("stale node returns alone", func(s *stage) {
		s.off(nodeA)
		s.mode(nodeB, quorum.Sole, true)
		s.write(nodeB)
		s.off(nodeB)
		s.on(nodeA)
		s.says(nodeA, quorum.Stale, "the log went on without this node") // the witness says so
		s.refused(nodeA, "STALE")
		s.takeoverRefused(nodeA)
		s.readOnly(2*caseHoldDown, nodeA)
		s.on(nodeB)
		s.mode(nodeB, quorum.Sole, true)
		s.paired()
		s.story(quorum.ByWitness, quorum.Sole, quorum.Pair)
	})
	s.play("witness down", func(s *stage) {
		s.signalWitness(unix.SIGKILL)
		s.write(nodeA) // a pair needs no witness
		s.witnessSilent()
		s.on(nodeB)
		s.paired()
		s.story("")
		s.restartWitness()
		s.witnessKnows()
	})
	s.play("witness slow", func(s *stage) {
		s.signalWitness(unix.SIGSTOP)
		s.write(nodeB)
		s.witnessSilent()
		s.signalWitness(unix.SIGCONT)
		s.mode(nodeA, quorum.Sole, true)
		s.on(nodeB)
		s.paired()
		s.story(quorum.ByWitness, quorum.Sole, quorum.Pair)
		s.witnessKnows()
	})
	s.play("witness flapping", witnessFlapping)
	s.play("witness wiped", witnessWiped)
}

// witnessKnows waits until both nodes see their own log's claim at the witness.
func (s *stage) witnessKnows() {
	s.t.Helper()
	s.eventually("the witness to know", func() string {
		for _, node := range lab.NodeNames() {
			all, err := s.api(node).Witnesses(s.ctx(), api.ScopeNode)
			switch {
			case err != nil:
				return err.Error()
			case len(all) != 1 || !all[0].Matches:
				return fmt.Sprintf("%s sees %+v", node, all)
			}
		}
		return ""
	})
}

func (s *stage) signalWitness(sig unix.Signal) {
	s.t.Helper()
	p, err := s.Witness()
	s.ok(err)
	s.ok(p.Signal(sig))
	if sig == unix.SIGKILL {
		s.eventually("the witness to be gone", func() string {
			if p.Alive() {
				return "it lives"
			}
			return ""
		})
	}
}

func (s *stage) restartWitness() {
	s.t.Helper()
	_, err := s.StartWitness(s.ctx())
	s.ok(err)
}

// witnessSilent: node-b dies while the witness says nothing, and nothing is not a
// yes.
func (s *stage) witnessSilent() {
	s.t.Helper()
	s.off(nodeB)
	s.mode(nodeA, quorum.Suspended, false)
	s.readOnly(2*caseHoldDown, nodeA)
	s.says(nodeA, quorum.Suspended, "witness")
	s.refused(nodeA, "SUSPENDED")
	if st := s.state(nodeA); strings.Contains(st, string(quorum.Granted)) {
		s.t.Errorf("granted by nobody: %s", st)
	}
}

// oneWriter watches until the returned function is called that the two nodes are
// never SOLE at the same moment.
func (s *stage) oneWriter() (end func()) {
	ctx, cancel := context.WithCancel(s.ctx())
	var wg sync.WaitGroup
	both := ""
	wg.Go(func() {
		for {
			a, b := s.status(nodeA), s.status(nodeB)
			if a.Mode == string(quorum.Sole) && b.Mode == string(quorum.Sole) && a.Writable && b.Writable {
				both = fmt.Sprintf("epochs %d and %d", a.Head.Epoch, b.Head.Epoch)
			}
			if !wait(ctx) {
				return
			}
		}
	})
	t := s.t
	return func() {
		cancel()
		wg.Wait()
		if both != "" {
			t.Errorf("both nodes wrote alone: %s", both)
		}
	}
}

// tryLimit is how long a command of [stage.trySome] waits for its answer.
const tryLimit = 2 * time.Second

// trySome sends a command to each node at the moment of a cut, and keeps what is
// answered. What is not may stand in the log, or be orphaned, or be nowhere.
func (s *stage) trySome() (end func()) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, node := range lab.NodeNames() {
		for range 4 {
			s.n++
			name, c := fmt.Sprintf("n%d", s.n), s.api(node)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(s.ctx(), tryLimit)
				defer cancel()
				r, err := c.Do(ctx, projections.SetService{Name: name, Pool: "many"}, api.Request{Key: "key-" + name, Interface: "test"})
				if err != nil || len(r.Events) != 1 {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				s.acks = append(s.acks, acked{name, r.Events[0].Seq, r.Events[0].ID})
			})
		}
	}
	return wg.Wait
}

// split parts the nodes while both are asked to write. One of them becomes the
// only writer, must if only one can, and the other one is told no.
func (s *stage) split(part func() error, must string) {
	s.t.Helper()
	s.write(nodeA)
	end := s.announced()
	defer end()
	single := s.oneWriter()
	defer single()
	orphaned := len(s.orphans())
	s.ok(part())
	tried := s.trySome()
	winner := ""
	s.eventually("one node to go on alone", func() string {
		for _, n := range lab.NodeNames() {
			if st := s.status(n); st.Mode == string(quorum.Sole) && st.Writable {
				winner = n
				return ""
			}
		}
		return "none has"
	})
	tried()
	loser := lab.Other(winner)
	if must == loser {
		s.t.Errorf("%s is cut off from everything and went on alone", winner)
	}
	s.eventually(loser+" to refuse", func() string {
		if st := s.status(loser); st.Writable || st.Mode != string(quorum.Suspended) && st.Mode != string(quorum.Stale) {
			return fmt.Sprintf("it is %s, writable %v", st.Mode, st.Writable)
		}
		return ""
	})
	s.write(winner)
	s.refused(loser, "")
	s.readOnly(2*caseHoldDown, loser)
	s.ok(s.Meet())
	s.paired()
	s.write(loser)
	s.story(quorum.ByWitness, quorum.Sole, quorum.Pair)
	s.witnessKnows()
	s.eventually("the store that was set aside to be read", func() string { return s.unread(loser) })
	s.eventually("the facts of "+loser+" to be in the log", func() string {
		if n := s.status(loser).Pending; n > 0 {
			return fmt.Sprintf("%d wait", n)
		}
		return ""
	})
	now := s.orphans()
	for _, e := range now {
		for _, x := range s.acks {
			if x.id == e.ID {
				s.t.Errorf("%s was answered and is orphaned", x.name)
			}
		}
	}
	s.t.Logf("%s went on; %d events of %s are orphaned", winner, len(now)-orphaned, loser)
}

// unread says which archives of a node were not yet compared with the log.
func (s *stage) unread(node string) string {
	all, _ := filepath.Glob(filepath.Join(s.data(node), "archive", "*"))
	for _, a := range all {
		if _, err := os.Stat(filepath.Join(a, "orphans-read")); errors.Is(err, os.ErrNotExist) {
			return filepath.Base(a) + " has not been"
		}
	}
	return ""
}

// orphans are the events that log.orphaned tells of, from both nodes.
func (s *stage) orphans() []eventlog.Envelope {
	s.t.Helper()
	var out []eventlog.Envelope
	s.eventually("log.orphaned", func() string {
		out = nil
		events, err := s.api(nodeA).Events(s.ctx(), audit.Query{Types: []string{string(eventlog.TypeLogOrphaned)}, Limit: audit.MaxLimit})
		if err != nil {
			return err.Error()
		}
		for _, e := range events {
			var p eventlog.OrphanedPayload
			s.ok(json.Unmarshal(e.Data, &p))
			run, err := p.Envelopes()
			s.ok(err)
			out = append(out, run...)
		}
		return ""
	})
	return out
}

// witnessFlapping: the witness comes and goes while the nodes are apart. One of
// them gets its word, once.
func witnessFlapping(s *stage) {
	s.write(nodeA)
	single := s.oneWriter()
	defer single()
	s.ok(s.Part())
	for range 5 {
		s.signalWitness(unix.SIGKILL)
		s.holds(400*time.Millisecond, "away", func() string { return "" })
		s.restartWitness()
		s.holds(200*time.Millisecond, "there", func() string { return "" })
	}
	s.eventually("one node to go on alone", func() string {
		a, b := s.status(nodeA), s.status(nodeB)
		if a.Mode == string(quorum.Sole) || b.Mode == string(quorum.Sole) {
			return ""
		}
		return a.Mode + " and " + b.Mode
	})
	s.ok(s.Meet())
	s.paired()
	s.write(nodeB)
	s.story(quorum.ByWitness, quorum.Sole, quorum.Pair)
	s.witnessKnows()
}

// witnessWiped: a witness that lost its memory gives nobody the log. When the
// pair can write again, it is told anew.
func witnessWiped(s *stage) {
	s.write(nodeA)
	s.signalWitness(unix.SIGKILL)
	s.off(nodeB)
	s.mode(nodeA, quorum.Suspended, false)
	entries, err := os.ReadDir(s.WitnessData())
	s.ok(err)
	removed := 0
	for _, e := range entries {
		// It keeps its certificate, which the nodes know it by.
		if !strings.HasPrefix(e.Name(), "witness.") {
			s.ok(os.RemoveAll(filepath.Join(s.WitnessData(), e.Name())))
			removed++
		}
	}
	if removed == 0 {
		s.t.Fatal("the witness has no memory to lose")
	}
	s.restartWitness()
	s.readOnly(2*caseHoldDown, nodeA)
	s.refused(nodeA, "SUSPENDED")
	s.on(nodeB)
	s.paired()
	s.witnessKnows() // it was told
	s.story("")
	s.off(nodeA)
	s.mode(nodeB, quorum.Sole, true) // and gives its word again
	s.write(nodeB)
	s.on(nodeA)
	s.paired()
	s.witnessKnows()
}
