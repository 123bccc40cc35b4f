package fence

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

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

// tail keeps the end of what is written to it: the answer is the last line.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer; it never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	b = b[max(0, n-maxOutput):]
	if over := len(t.buf) + len(b) - maxOutput; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, b...)
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(t.buf), "�")
}
