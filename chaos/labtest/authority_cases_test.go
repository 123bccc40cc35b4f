package labtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cluster/config"
	"dyad/cluster/quorum"
)

// fenceWord makes this program a fence: fenceWord DIR DELAY NODE, as the agents of
// [TestFenceCases] call it.
const fenceWord = "fence-off"

// brokenFence is the file in a lab's directory of the router that makes the fence
// fail.
const brokenFence = "fence-broken"

// fenceOff switches the node off and reads it back, after a while: of two nodes
// that fence each other at the same moment the one without a delay wins.
func fenceOff(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want DIR DELAY NODE, got %q", args)
	}
	delay, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	<-time.After(delay)
	l, err := lab.Open(args[0])
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(l.Dir, netlab.Router, brokenFence)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, errors.New("the power switch does not answer"))
	}
	if err := l.PowerOff(args[2]); err != nil {
		return err
	}
	_, err = fmt.Println("off")
	return err
}

// TestFenceCases are the cases in which a node switches the other one off.
func TestFenceCases(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, func(node string, c *config.Config) {
		delay := "0s"
		if node == nodeB {
			delay = "5s"
		}
		c.Takeover.Authority = config.AuthorityFence
		c.Takeover.Fence.Command = []string{self, fenceWord, filepath.Dir(filepath.Dir(c.DataDir)), delay}
	}, nil)
	s.play("peer crash", func(s *stage) {
		s.write(nodeB)
		end := s.announced()
		defer end()
		s.off(nodeB)
		s.mode(nodeA, quorum.Sole, true)
		s.write(nodeA)
		s.on(nodeB)
		s.paired()
		s.write(nodeB)
		s.story(quorum.ByFence, quorum.Sole, quorum.Pair)
	})
	s.play("interconnect cut, nobody is switched off", linkCut)
	s.play("parted, the first one switches the other one off", func(s *stage) {
		s.write(nodeA)
		single := s.oneWriter()
		defer single()
		s.ok(s.Part())
		s.mode(nodeA, quorum.Sole, true)
		n, err := s.Node(nodeB)
		s.ok(err)
		if p, err := n.Supervisor(); err == nil && p.Alive() {
			s.t.Errorf("%s goes on alone while %s runs", nodeA, nodeB)
		}
		s.write(nodeA)
		s.ok(s.Meet())
		s.on(nodeB)
		s.paired()
		s.story(quorum.ByFence, quorum.Sole, quorum.Pair)
	})
	s.play("the fence fails", func(s *stage) {
		broken := filepath.Join(s.Dir, netlab.Router, brokenFence)
		s.ok(os.WriteFile(broken, nil, 0o600))
		s.off(nodeB)
		s.says(nodeA, quorum.Suspended, "the power switch does not answer")
		s.readOnly(2*caseHoldDown, nodeA)
		s.refused(nodeA, "SUSPENDED")
		s.ok(os.Remove(broken))
		s.mode(nodeA, quorum.Sole, true)
		s.on(nodeB)
		s.paired()
		s.story(quorum.ByFence, quorum.Sole, quorum.Pair)
	})
}

// TestTorCases are the cases in which the router's word counts.
func TestTorCases(t *testing.T) {
	s := newStage(t, func(_ string, c *config.Config) {
		c.Takeover.Authority, c.Takeover.HoldDown = config.AuthorityToR, config.Duration(3*time.Second)
	}, nil)
	s.play("peer crash", func(s *stage) {
		s.write(nodeB)
		end := s.announced()
		defer end()
		s.off(nodeB)
		s.mode(nodeA, quorum.Suspended, false)
		s.mode(nodeA, quorum.Sole, true)
		s.write(nodeA)
		s.on(nodeB)
		s.paired()
		s.write(nodeB)
		s.story(quorum.ByTor, quorum.Sole, quorum.Pair)
	})
	s.play("both crash, one of a pair returns", func(s *stage) {
		s.off(nodeA)
		s.off(nodeB)
		s.on(nodeA)
		s.says(nodeA, quorum.Stale, "start dyad on "+nodeB)
		s.readOnly(5*time.Second, nodeA) // after a reboot the router's word does not count
		s.on(nodeB)
		s.paired()
		s.story("")
	})
	s.play("interconnect cut", linkCut)
	s.play("both paths of one node cut", func(s *stage) {
		s.write(nodeB)
		end := s.announced()
		defer end()
		single := s.oneWriter()
		defer single()
		s.ok(s.Cut(nodeB, lab.LinkCluster, lab.LinkRouter))
		s.mode(nodeA, quorum.Sole, true)
		s.refused(nodeB, "SUSPENDED")
		s.readOnly(3*time.Second, nodeB) // its router went with the other node
		s.write(nodeA)
		s.ok(s.Mend(nodeB))
		s.paired()
		s.write(nodeB)
		s.story(quorum.ByTor, quorum.Sole, quorum.Pair)
	})
}
