package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos/netlab"
)

const (
	// restartDelay is that of the systemd unit (RestartSec).
	restartDelay = time.Second
	// stopGrace is how long an agent may take to stop as planned.
	stopGrace = 20 * time.Second
	// resumeEvery is how often a stopped agent whose fault has ended is let go on.
	resumeEvery = time.Second
)

// Supervise keeps the agent of a node running until ctx ends, as systemd does
// with Restart=always: started again a second after it ended, nothing of it
// left behind. While somebody else holds the node's lock, it does not start
// the agent; whoever held it may have died, so whatever silence it left in the
// node is ended first.
func Supervise(ctx context.Context, n Node, binary string, log *slog.Logger) error {
	self, err := netlab.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	// What an agent leaves behind becomes our child, so that we can end it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	for ctx.Err() == nil {
		cmd, err := startAgent(ctx, n, binary, log)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			log.Error("agent not started", "event", "agent-start-failed", "reason", err.Error())
		} else {
			log.Info("agent started", "event", "agent-started", "pid", cmd.Process.Pid)
			werr := waitAgent(ctx, n, cmd)
			log.Info("agent ended", "event", "agent-ended", "reason", fmt.Sprint(werr))
		}
		endChildren(self, log)
		delay := time.NewTimer(restartDelay)
		select {
		case <-ctx.Done():
		case <-delay.C:
		}
		delay.Stop()
	}
	return nil
}

// startAgent starts the agent while holding the node's lock, and writes down
// its process before letting go: whoever takes the lock next finds it.
func startAgent(ctx context.Context, n Node, binary string, log *slog.Logger) (*exec.Cmd, error) {
	unlock, err := WaitLock(ctx, n.HoldPath())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := netlab.Unsilence(n.NS); err != nil {
		log.Error("the node stays silent", "event", "heal-failed", "reason", err.Error())
	}
	f, err := os.OpenFile(filepath.Join(n.Dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the agent's log: %w", err)
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(binary, "agent", "--config", n.Config)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	p, err := netlab.FindProcess(cmd.Process.Pid)
	if err == nil {
		err = p.Save(filepath.Join(n.Dir, agentFile))
	}
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, errors.Join(err, cmd.Wait())
	}
	return cmd, nil
}

// environment is that of this process without the settings of dyad, which would
// overrule a node's own configuration: an operator of a lab has DYAD_SOCKET set.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "DYAD_") && !strings.HasPrefix(kv, "DYAD_LAB_")
	})
}

// waitAgent waits until the agent ends. Whoever made it stand still holds the
// node's lock; if that one has died, it goes on.
func waitAgent(ctx context.Context, n Node, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(resumeEvery)
	defer look.Stop()
	for waits := true; waits; {
		select {
		case err := <-ended:
			return err
		case <-look.C:
			resume(n)
		case <-ctx.Done():
			waits = false
		}
	}
	resume(n)
	_ = cmd.Process.Signal(unix.SIGTERM)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		return err
	case <-grace.C:
		_ = cmd.Process.Kill()
		return errors.Join(fmt.Errorf("not ended %s after SIGTERM", stopGrace), <-ended)
	}
}

func resume(n Node) {
	unlock, err := Lock(n.HoldPath())
	if err != nil {
		return // held, or the directory is gone
	}
	defer unlock()
	if agent, err := n.Agent(); err == nil {
		_ = agent.Resume() // again in a moment
	}
}

// endChildren kills what the agent left behind, as systemd does with the rest
// of a unit's control group.
func endChildren(self netlab.Process, log *slog.Logger) {
	for _, p := range self.Tree() {
		if p != self {
			if err := p.KillTree(); err != nil {
				log.Error("left behind by the agent", "event", "orphan", "reason", err.Error())
			}
		}
	}
	for { // reap
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
	}
}
