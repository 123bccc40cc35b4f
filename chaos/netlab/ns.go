package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where named namespaces are mounted; the ip tool uses the same.
const netnsDir = "/run/netns"

// onThread runs f on a thread that no other goroutine uses meanwhile, and gives
// the thread back its network namespace afterwards. A thread that cannot be
// given back ends with its goroutine, so that nobody else ever runs in a
// namespace by accident. (It is given back if possible, as the process's first
// thread cannot end: it would stay, and hold the namespace.)
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("open this thread's network namespace: %w", err)
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		_ = home.Close()
		done <- err
	}()
	return <-done
}

// Do runs f inside the named namespace. Sockets that f opens, and processes it
// starts, stay in that namespace. f must not start goroutines that expect to.
func Do(ns string, f func() error) error {
	return onThread(func() error {
		h, err := netns.GetFromName(ns)
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", ns, err)
		}
		defer func() { _ = h.Close() }()
		if err := netns.Set(h); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns, err)
		}
		return f()
	})
}

// Start starts cmd inside the named namespace. cmd must not ask for a death
// signal of its parent: the thread that starts it ends at once.
func Start(ns string, cmd *exec.Cmd) error {
	return Do(ns, cmd.Start)
}

// Exists tells whether the named namespace exists.
func Exists(ns string) bool {
	h, err := netns.GetFromName(ns)
	if err != nil {
		return false
	}
	defer func() { _ = h.Close() }()
	var st unix.Statfs_t
	// A file that is left over after its mount went away is no namespace.
	return unix.Statfs(filepath.Join(netnsDir, ns), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// ensureNS makes the named namespace if it is not there.
func ensureNS(ns string) error {
	if Exists(ns) {
		return nil
	}
	if err := os.Remove(filepath.Join(netnsDir, ns)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the leftover of namespace %s: %w", ns, err)
	}
	return onThread(func() error {
		h, err := netns.NewNamed(ns)
		if err != nil {
			return fmt.Errorf("make network namespace %s: %w", ns, err)
		}
		return h.Close()
	})
}

// deleteNS removes the named namespace; that it is not there is no error.
func deleteNS(ns string) error {
	path := filepath.Join(netnsDir, ns)
	// Mounted once for each time it was made over a leftover.
	for range maxMounts {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			break
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", ns, err)
	}
	return nil
}

// maxMounts bounds how often one name is unmounted.
const maxMounts = 8

// Namespaces lists the named namespaces whose name begins with prefix and "-".
func Namespaces(prefix string) ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix+"-") {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// processesIn lists the processes inside the named namespace.
func processesIn(ns string) ([]Process, error) {
	var want, got unix.Stat_t
	if err := unix.Stat(filepath.Join(netnsDir, ns), &want); err != nil {
		return nil, fmt.Errorf("look at network namespace %s: %w", ns, err)
	}
	pids, err := allPIDs()
	if err != nil {
		return nil, err
	}
	var out []Process
	for _, pid := range pids {
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &got) != nil || got.Ino != want.Ino || got.Dev != want.Dev {
			continue
		}
		if p, err := FindProcess(pid); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// KillIn kills every process in the named namespace, but those to spare, and waits
// until none is left.
func KillIn(ns string, spare ...Process) error { return killIn(ns, killWait, spare...) }

func killIn(ns string, limit time.Duration, spare ...Process) error {
	if !Exists(ns) {
		return nil
	}
	return poll(limit, fmt.Sprintf("processes in namespace %s to end", ns), func() (bool, error) {
		ps, err := processesIn(ns)
		if err != nil {
			return false, err
		}
		ps = slices.DeleteFunc(ps, func(p Process) bool { return slices.Contains(spare, p) })
		for _, p := range ps {
			if p.PID == os.Getpid() {
				return false, fmt.Errorf("this very process is inside namespace %s; run the command outside of it", ns)
			}
			_ = p.Signal(unix.SIGKILL)
		}
		return len(ps) == 0, nil
	})
}

// pollEvery is how often a level is looked at.
const pollEvery = 10 * time.Millisecond

// poll looks at a level until it is reached, an error, or limit.
func poll(limit time.Duration, what string, level func() (bool, error)) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := level()
		if ok || err != nil {
			return err
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("waited %s for %s", limit, what)
		case <-tick.C:
		}
	}
}
