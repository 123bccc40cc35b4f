package detect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a check by command.
const (
	// maxOutput bytes of what a command says are kept, for the reason; the rest
	// is read and dropped.
	maxOutput = 200
	// outputGrace is how long a process that escaped from the group may hold the
	// command's output open.
	outputGrace = 100 * time.Millisecond
)

// checkExec runs a command in a process group of its own. When the command has
// ended or its time is up, the whole group is killed: a child must not outlive
// its check. The exit status alone decides.
func checkExec(ctx context.Context, command string) error {
	out := &head{}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	g := &group{cmd: cmd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = g.kill
	cmd.WaitDelay = outputGrace
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	g.end()
	err := cmd.Wait()
	if err == nil || cmd.ProcessState.Success() && errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if words := out.String(); words != "" {
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}

// group is a command with all its children.
type group struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	over bool
}

// kill ends every process of the group.
//
// Invariant: it signals only while the leader has not been reaped, as its number
// could belong to a stranger afterwards.
func (g *group) kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return os.ErrProcessDone
	}
	return syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL)
}

// end waits until the leader has ended, without reaping it, and then kills
// whoever it left behind.
func (g *group) end() {
	for {
		err := unix.Waitid(unix.P_PID, g.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = g.kill() // there may be nobody left
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
}

// head keeps the beginning of what is written to it.
type head struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer; it never fails.
func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = append(h.buf, b[:min(len(b), maxOutput-len(h.buf))]...)
	return len(b), nil
}

// String is the text on one line.
func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(h.buf), "")), " ")
}
