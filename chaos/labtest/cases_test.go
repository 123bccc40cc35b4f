package labtest

import (
	"fmt"
	"strings"
	"testing"

	"dyad/chaos/lab"
	"dyad/cluster/quorum"
	"dyad/projections"
)

// TestOperatorCases are the cases in which a person decides.
func TestOperatorCases(t *testing.T) {
	s := newStage(t, nil, nil)
	s.play("peer crash", peerCrash)
	s.play("interconnect cut", linkCut)
	s.play("both paths cut", parted)
	s.play("both crash, one of a pair returns", pairReturnsAlone)
	s.play("both crash, the sole one returns", soleReturnsAlone)
	s.play("stale node returns alone, then its peer", staleReturns)
	s.play("two wrong words make a fork, a third one ends it", forked)
}

// peerCrash: the survivor waits for a person, goes on alone by that word, and
// takes the other one back.
func peerCrash(s *stage) {
	s.write(nodeB)
	end := s.announced()
	defer end()
	archived := s.archives(nodeB)
	s.off(nodeB)
	s.mode(nodeA, quorum.Suspended, false)
	s.refused(nodeA, "SUSPENDED")
	s.readOnly(2*caseHoldDown, nodeA) // nobody decides by himself
	s.takeOver(nodeA)
	s.write(nodeA)
	s.on(nodeB)
	s.paired()
	s.write(nodeB)
	s.story(quorum.ByOperator, quorum.Sole, quorum.Pair)
	if n := s.archives(nodeB) - archived; n != 1 {
		s.t.Errorf("%s set %d stores aside, want 1", nodeB, n)
	}
}

// linkCut: the nodes still hear each other by way of the router's network, so
// nobody goes on alone, whoever decides. The log needs the cut link, so nobody
// writes; then they are the same pair again.
func linkCut(s *stage) {
	s.write(nodeA)
	end := s.announced()
	defer end()
	s.ok(s.Cut(nodeB, lab.LinkCluster))
	s.trySome()()
	for _, n := range lab.NodeNames() {
		s.says(n, quorum.Suspended, lab.Other(n)+" is there and its store does not answer")
		s.refused(n, "SUSPENDED")
		if code, out := s.dyad(n, "takeover", "--confirm", lab.Other(n), "--reason", s.t.Name()); code != 3 || !strings.Contains(out, "is alive") {
			s.t.Errorf("%s: takeover from a node that is heard: exit %d, want 3\n%s", n, code, out)
		}
	}
	s.readOnly(2*caseHoldDown, nodeA, nodeB)
	s.ok(s.Mend(nodeB))
	s.paired()
	s.write(nodeB)
	s.story("")
}

// parted: both live and don't hear each other. Nobody is told anything, so
// nobody writes; then they are the same pair again.
func parted(s *stage) {
	s.write(nodeA)
	end := s.announced()
	defer end()
	s.ok(s.Part())
	s.trySome()()
	for _, n := range lab.NodeNames() {
		s.says(n, quorum.Suspended, lab.Other(n)+" is silent")
		s.refused(n, "SUSPENDED")
	}
	s.readOnly(2*caseHoldDown, nodeA, nodeB)
	s.ok(s.Meet())
	s.paired()
	s.write(nodeB)
	s.story("")
}

// pairReturnsAlone: it can't know whether the other one went on, so it waits for
// it, or for a person who takes the loss upon himself.
func pairReturnsAlone(s *stage) {
	s.write(nodeA)
	s.off(nodeA)
	s.off(nodeB)
	s.on(nodeA)
	s.says(nodeA, quorum.Stale, "start dyad on "+nodeB)
	s.eventually("the services from the checkpoint", s.noRoute)
	s.refused(nodeA, "STALE")
	s.takeoverRefused(nodeA)
	s.readOnly(2*caseHoldDown, nodeA)
	s.on(nodeB)
	s.paired()
	s.write(nodeA)
	s.story("")
}

// soleReturnsAlone: nobody else may write, so nobody has to be asked.
func soleReturnsAlone(s *stage) {
	s.off(nodeA)
	s.mode(nodeB, quorum.Suspended, false)
	s.takeOver(nodeB)
	s.write(nodeB)
	s.off(nodeB)
	s.on(nodeB)
	s.mode(nodeB, quorum.Sole, true)
	s.write(nodeB)
	s.on(nodeA)
	s.paired()
	s.write(nodeA)
	s.story(quorum.ByOperator, quorum.Sole, quorum.Pair)
}

// staleReturns: the survivor went on alone and dies; the node that was passed
// over must not write what it has, until the survivor takes it in again.
func staleReturns(s *stage) {
	s.off(nodeB)
	s.mode(nodeA, quorum.Suspended, false)
	s.takeOver(nodeA)
	s.write(nodeA)
	s.off(nodeA)
	s.on(nodeB)
	s.mode(nodeB, quorum.Stale, false)
	s.refused(nodeB, "STALE")
	s.takeoverRefused(nodeB)
	s.readOnly(2*caseHoldDown, nodeB)
	s.on(nodeA)
	s.mode(nodeA, quorum.Sole, true)
	s.paired()
	s.write(nodeB)
	s.story(quorum.ByOperator, quorum.Sole, quorum.Pair)
}

// takeoverRefused: a node without proof of having the newest log does not go on
// alone unless the loss is accepted.
func (s *stage) takeoverRefused(node string) {
	s.t.Helper()
	code, out := s.dyad(node, "takeover", "--confirm", lab.Other(node), "--reason", s.t.Name())
	if code != 3 || !strings.Contains(out, "--accept-loss") {
		s.t.Errorf("%s: takeover without proof: exit %d, want 3 with --accept-loss\n%s", node, code, out)
	}
}

// says waits until a node is that, takes no writes, and says so.
func (s *stage) says(node string, mode quorum.Mode, text string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s to be %s and say %q", node, mode, text), func() string {
		st := s.status(node)
		if st.Mode == string(mode) && !st.Writable && strings.Contains(st.Why, text) {
			return ""
		}
		return fmt.Sprintf("it is %s, writable %v: %s", st.Mode, st.Writable, st.Why)
	})
}

// forked: a person says of each living node that the other one is down. Both go
// on alone, which nothing can prevent; what one of them answered is orphaned, and
// nothing of it is lost from sight.
func forked(s *stage) {
	s.write(nodeA)
	s.ok(s.Part())
	for _, n := range lab.NodeNames() {
		s.says(n, quorum.Suspended, lab.Other(n)+" is silent")
	}
	s.takeOver(nodeA)
	s.takeOver(nodeB)
	s.write(nodeA)
	own := len(s.acks)
	s.write(nodeB)
	fork := s.acks[own:]
	s.acks = s.acks[:own:own]
	s.ok(s.Meet())
	s.eventually("the nodes to hear each other", func() string {
		if s.status(nodeA).View.Nodes[nodeB] != projections.Alive {
			return "they don't"
		}
		return ""
	})
	for _, n := range lab.NodeNames() {
		st := s.status(n)
		s.t.Logf("%s: %s, writable %v: %s", n, st.Mode, st.Writable, st.Why)
	}
	s.off(nodeB)
	s.eventually(nodeA+" to miss "+nodeB, func() string {
		if s.status(nodeA).View.Nodes[nodeB] == projections.Alive {
			return "it hears it"
		}
		return ""
	})
	s.takeOver(nodeA)
	s.on(nodeB)
	s.paired()
	s.eventually("what "+nodeB+" answered to be orphaned", func() string {
		ids := map[string]bool{}
		for _, e := range s.orphans() {
			ids[e.ID] = true
		}
		for _, x := range fork {
			if !ids[x.id] {
				return x.name + " is not"
			}
		}
		return ""
	})
	s.story(quorum.BySelf, quorum.Sole, quorum.Sole, quorum.Pair)
}
