package labtest

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"dyad/cluster/quorum"
)

// By how much later a node is killed than the time before.
const (
	takeoverStep = 75 * time.Millisecond
	returnStep   = 250 * time.Millisecond
	// maxKills bounds them: a takeover and a return take far fewer.
	maxKills = 60
)

// caseStart is enough for an agent's start up to its first answer.
const caseStart = 2 * time.Second

// TestKillCases kill a node at many moments of a takeover and of a return. Each
// kill comes a little later after the start than the one before, so that together
// they fall into every step. A return is resumed; a takeover is told again.
func TestKillCases(t *testing.T) {
	s := newStage(t, nil, nil)
	s.play("killed while it takes over", killedInTakeover)
	s.play("killed while it returns", func(s *stage) { s.killedInReturn(nodeB) })
	s.play("the survivor killed while the other one returns", func(s *stage) { s.killedInReturn(nodeA) })
}

// killed starts a node, does something meanwhile, and kills it, each time a step
// later after its start, until two kills came after the end that is asked for.
func (s *stage) killed(node string, step time.Duration, do func(), end func() bool) {
	s.t.Helper()
	kills, ended := 0, 0
	for ; ended < 2; kills++ {
		if kills == maxKills {
			s.t.Fatalf("%d of %d kills came after the end", ended, kills)
		}
		s.on(node)
		done := make(chan struct{})
		go func() { defer close(done); do() }()
		at := time.NewTimer(step * time.Duration(kills+1))
		select {
		case <-at.C:
		case <-s.ctx().Done():
			s.t.Fatal(s.ctx().Err())
		}
		if end() {
			ended++
		}
		s.off(node)
		<-done
	}
	s.t.Logf("%d kills, the last two after the end", kills)
}

func killedInTakeover(s *stage) {
	s.write(nodeB)
	s.off(nodeB)
	s.mode(nodeA, quorum.Suspended, false)
	word := make(chan struct{})
	go func() {
		defer close(word)
		// It is killed before it answers.
		_, _ = s.Dyad(s.ctx(), nodeA, "takeover", "--confirm", nodeB, "--reason", "killed meanwhile")
	}()
	s.eventually("the word to be on disk", func() string {
		if st := s.state(nodeA); !strings.Contains(st, string(quorum.Granted)) {
			return "node.state is " + st
		}
		return ""
	})
	s.off(nodeA)
	<-word
	// The word ends with the start it was given in: it is given again and again,
	// until one start gets to its end. The last ones are killed as a sole writer.
	again := func() {
		s.answers(nodeA)
		_, _ = s.Dyad(s.ctx(), nodeA, "takeover", "--confirm", nodeB, "--accept-loss", "--reason", "killed meanwhile")
	}
	s.killed(nodeA, takeoverStep, again, func() bool { return s.status(nodeA).Writable })
	s.on(nodeA)
	s.eventually("a start that gets to its end", func() string {
		if s.status(nodeA).Writable {
			return ""
		}
		_, out := s.dyad(nodeA, "takeover", "--confirm", nodeB, "--accept-loss", "--reason", "killed before")
		return out
	})
	s.mode(nodeA, quorum.Sole, true)
	s.write(nodeA)
	s.on(nodeB)
	s.paired()
	s.write(nodeB)
	// A word said to a sole writer raises the epoch again, by itself.
	modes, words := s.epochs()
	if !slices.Equal(slices.Compact(modes), []quorum.Mode{quorum.Sole, quorum.Pair}) || !names(words[0], quorum.ByOperator) {
		s.t.Errorf("the log went through %v by %q", modes, words)
	}
}

// answers waits until the node's agent listens, and gives up soon: it may have been
// killed before.
func (s *stage) answers(node string) {
	ctx, cancel := context.WithTimeout(s.ctx(), caseStart)
	defer cancel()
	for wait(ctx) {
		n, err := s.Node(node)
		if err != nil {
			return
		}
		if c, err := net.Dial("unix", n.Socket); err == nil {
			_ = c.Close()
			return
		}
	}
}

// killedInReturn kills one node again and again while node-b, which was passed
// over, comes back to node-a.
func (s *stage) killedInReturn(victim string) {
	s.off(nodeB)
	s.mode(nodeA, quorum.Suspended, false)
	s.takeOver(nodeA)
	s.write(nodeA)
	if victim == nodeA {
		s.off(nodeA)
		s.on(nodeB)
	}
	s.killed(victim, returnStep, func() {}, func() bool { return s.status(victim).Mode == string(quorum.Pair) && s.status(victim).Writable })
	s.on(victim)
	s.eventually("the pair", func() string {
		// Killed as one of a pair, the node that is left waits for it.
		return s.notPair()
	})
	s.write(nodeA)
	s.write(nodeB)
}
