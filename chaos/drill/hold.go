package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// Held is what a fault on a node has come to, in fault.json of the node's
// directory.
type Held struct {
	Correlation string      `json:"correlation"`
	Fault       chaos.Fault `json:"fault"`
	// AppliedAt is when the fault began to bite: taken right before the
	// silence for host-silent, right before the signal for the others.
	AppliedAt time.Time `json:"applied_at,omitzero"`
	HealAt    time.Time `json:"heal_at,omitzero"` // planned
	HealedAt  time.Time `json:"healed_at,omitzero"`
	Error     string    `json:"error,omitempty"`
}

const faultFile = "fault.json"

// holdLockLimit bounds waiting for the node's lock; a supervisor holds it only
// while it starts the agent.
const holdLockLimit = 5 * time.Second

// agentStopLimit bounds a planned stop of the agent.
const agentStopLimit = 25 * time.Second

func readHeld(n lab.Node) (Held, error) {
	b, err := os.ReadFile(filepath.Join(n.Dir, faultFile))
	if err != nil {
		return Held{}, err
	}
	var h Held
	if err := json.Unmarshal(b, &h); err != nil {
		return Held{}, fmt.Errorf("read %s: %w", faultFile, err)
	}
	return h, nil
}

func (h Held) write(n lab.Node) error {
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(n.Dir, faultFile)
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", faultFile, err)
	}
	return os.Rename(path+".new", path)
}

// Hold applies a fault to a node, holds it for the given time or until ctx
// ends, and heals it. It is meant to be a process of its own. While it holds
// the node's lock, the supervisor does not start the agent; if it is killed,
// the lock ends with it, and the supervisor heals the node.
func Hold(ctx context.Context, n lab.Node, f chaos.Fault, healAfter time.Duration, correlation string) (err error) {
	h := Held{Correlation: correlation, Fault: f}
	defer func() {
		if err != nil {
			h.Error = err.Error()
			err = errors.Join(err, h.write(n))
		}
	}()
	lockCtx, cancel := context.WithTimeout(ctx, holdLockLimit)
	defer cancel()
	unlock, err := lab.WaitLock(lockCtx, n.HoldPath())
	if err != nil {
		return fmt.Errorf("another fault stands on %s: %w", n.Name, err)
	}
	defer unlock()
	agent, err := n.Agent()
	if err != nil || !agent.Alive() {
		return fmt.Errorf("the agent of %s does not run, so there is nothing to hit\n  try: dyad lab status", n.Name)
	}
	h.AppliedAt = time.Now()
	h.HealAt = h.AppliedAt.Add(healAfter)
	if err := apply(n, f, agent); err != nil {
		return errors.Join(err, netlab.Unsilence(n.NS), agent.Resume())
	}
	if err := h.write(n); err != nil {
		return errors.Join(err, netlab.Unsilence(n.NS), agent.Resume())
	}
	timer := time.NewTimer(time.Until(h.HealAt))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := errors.Join(netlab.Unsilence(n.NS), agent.Resume()); err != nil {
		return err
	}
	h.HealedAt = time.Now()
	return h.write(n)
}

func apply(n lab.Node, f chaos.Fault, agent netlab.Process) error {
	switch f {
	case chaos.FaultHostSilent:
		if err := netlab.Silence(n.NS); err != nil {
			return err
		}
		return agent.KillTree()
	case chaos.FaultAgentStop:
		if err := agent.Signal(unix.SIGTERM); err != nil {
			return fmt.Errorf("stop the agent of %s: %w", n.Name, err)
		}
		return waitGone(agent)
	case chaos.FaultAgentCrash:
		if err := agent.Signal(unix.SIGKILL); err != nil {
			return fmt.Errorf("kill the agent of %s: %w", n.Name, err)
		}
		return waitGone(agent)
	case chaos.FaultAgentHang, chaos.FaultPulseHang, chaos.FaultNodeHang:
		list, err := hit(f, agent)
		if err != nil {
			return err
		}
		return freeze(list)
	}
	return fmt.Errorf("no fault is called %q", f)
}

func waitGone(p netlab.Process) error {
	limit := time.NewTimer(agentStopLimit)
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for p.Alive() {
		select {
		case <-limit.C:
			return fmt.Errorf("the agent (process %d) did not stop within %s of SIGTERM", p.PID, agentStopLimit)
		case <-tick.C:
		}
	}
	return nil
}

// pollEvery is how often a level is looked at.
const pollEvery = 20 * time.Millisecond
