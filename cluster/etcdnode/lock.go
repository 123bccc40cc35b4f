package etcdnode

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const lockFile = "lock"

// ErrLocked: another agent uses the data directory.
var ErrLocked = errors.New("another agent uses the data directory")

// Lock is a data directory held by this process. The kernel gives it back when
// the process ends, however it ends.
type Lock struct{ f *os.File }

// LockDir takes dir for this process. It is created if it does not exist.
// Errors: ErrLocked with the PID of the other agent, ErrNotWritable.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, notWritable(dir, err)
	}
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, notWritable(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid := holder(f)
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is held by process %s; try: stop it first, or give this one another dataDir", ErrLocked, path, pid)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The PID only informs; the lock is the kernel's. On a full disk it may be
	// missing, and the agent still has to start.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &Lock{f}, nil
}

func holder(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return pid
	}
	return "(unknown)"
}

// Close gives the directory back.
func (l *Lock) Close() error { return l.f.Close() }
