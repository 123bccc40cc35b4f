package etcdnode

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dyad/cluster/quorum"
)

func someState() State {
	return State{
		Version: StateVersion, Release: "v1.2.3", Cluster: "c-1", Node: "node-a", Mode: quorum.Pair, Epoch: 7,
		Members: map[string]string{"node-a": "http://10.0.0.1:2380", "node-b": "http://10.0.0.2:2380"},
		Gossip:  []string{"10.0.0.2:7946"}, MemberID: 1<<63 + 5,
	}
}

func TestStateRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	for _, m := range quorum.Modes() {
		want := someState()
		want.Mode = m
		if err := SaveState(dir, want); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadState(dir); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("loaded %+v, %v; want %+v", got, err, want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v (%v), want node.state alone", left, err)
	}
}

func TestStateErrors(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    error
		says    string
	}{
		"nothing":      {"", ErrBadState, "node.state"},
		"not JSON":     {"{", ErrBadState, "backup"},
		"no version":   {`{"cluster":"c","node":"a","mode":"SOLO"}`, ErrBadState, "no version"},
		"no cluster":   {`{"version":1,"node":"a","mode":"SOLO"}`, ErrBadState, "no cluster"},
		"no node":      {`{"version":1,"cluster":"c","mode":"SOLO"}`, ErrBadState, "no node"},
		"unknown mode": {`{"version":1,"cluster":"c","node":"a","mode":"DUO"}`, ErrBadState, "DUO"},
		"bad members":  {`{"version":1,"cluster":"c","node":"a","mode":"SOLO","members":3}`, ErrBadState, "members"},
		"newer":        {`{"version":2,"release":"v9.1.0","members":"other"}`, ErrNewerState, "install dyad ≥ v9.1.0"},
		"newer, bare":  {`{"version":2}`, ErrNewerState, "reads up to 1"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadState(dir); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v that says %q", name, err, c.want, c.says)
		}
	}
	if _, err := LoadState(t.TempDir()); !errors.Is(err, ErrNotInitialised) || !strings.Contains(err.Error(), "dyad init") {
		t.Errorf("no file: %v; want ErrNotInitialised that says dyad init", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, stateFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadState(dir); err == nil || errors.Is(err, ErrNotInitialised) {
		t.Errorf("unreadable: %v", err)
	}
	if err := SaveState(dir, State{Node: "a"}); !errors.Is(err, ErrBadState) {
		t.Errorf("an incomplete state was saved: %v", err)
	}
}

// mount gives a directory with a file system of its own.
func mount(t *testing.T, options string, flags uintptr) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestReadOnlyDirectory(t *testing.T) {
	dir := mount(t, "size=256k", 0)
	if err := SaveState(dir, someState()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := SaveState(dir, someState()); !errors.Is(err, ErrNotWritable) || !strings.Contains(err.Error(), dir) {
		t.Errorf("save: %v; want ErrNotWritable that names %s", err, dir)
	}
	if _, err := LockDir(dir); !errors.Is(err, ErrNotWritable) {
		t.Errorf("lock: %v; want ErrNotWritable", err)
	}
	if got, err := LoadState(dir); err != nil || got.Node != "node-a" {
		t.Errorf("load: %+v, %v; what was saved is still there", got, err)
	}
	if err := SaveState(filepath.Join(dir, "below"), someState()); !errors.Is(err, ErrNotWritable) {
		t.Errorf("save in a new directory: %v; want ErrNotWritable", err)
	}
}

// On a full disk the old state stays whole, and saving works again afterwards.
func TestFullDirectory(t *testing.T) {
	dir := mount(t, "size=256k", 0)
	if err := SaveState(dir, someState()); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	f.Close()
	next := someState()
	next.Epoch++
	if err := SaveState(dir, next); !errors.Is(err, ErrNotWritable) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("save: %v; want ErrNotWritable, no space", err)
	}
	if got, err := LoadState(dir); err != nil || got.Epoch != 7 {
		t.Errorf("load: epoch %d, %v; want the state before, 7", got.Epoch, err)
	}
	// The lock is the kernel's: it needs an inode, not space.
	l, err := LockDir(dir)
	if err != nil {
		t.Errorf("lock: %v", err)
	} else if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := SaveState(dir, next); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadState(dir); err != nil || got.Epoch != 8 {
		t.Errorf("load: epoch %d, %v; want 8", got.Epoch, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	l, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("process %d;", os.Getpid())
	if _, err := LockDir(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
		t.Errorf("second: %v; want ErrLocked that says %q", err, want)
	}
	// Another process is refused the same way.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exe, "lock", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("another process: %v, %s; want it refused", err, out)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(exe, "lock", dir).CombinedOutput(); err != nil {
		t.Errorf("after the first gave it back: %v, %s", err, out)
	}
	// That process is gone, however it ended, and so is its lock.
	l, err = LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
