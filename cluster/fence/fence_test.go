package fence

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var request = Request{Action: Off, Peer: "node-b", Address: netip.MustParseAddr("192.168.0.2"), Cluster: "c1", Epoch: 8}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fence")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func do(t *testing.T, text string, timeout time.Duration, args ...string) (Evidence, error) {
	t.Helper()
	f, err := New(Options{Command: append([]string{script(t, text)}, args...), Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return f.Do(t.Context(), request)
}

// Exit 0 and "off" on the last line is the one grant; everything else is none.
func TestWhatIsAGrant(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"off":                       {"echo cutting the power; echo off", nil},
		"off with space around it":  {"printf 'x\\n off \\n\\n'", nil},
		"off, noise on stderr":      {"echo off; echo warning >&2", nil},
		"off without an end":        {"printf off", nil},
		"off, but a child lives on": {"sleep 60 & echo off", nil},
		"on":                        {"echo off; echo on", ErrNotOff},
		"silence":                   {"true", ErrNotOff},
		"off on stderr":             {"echo off >&2", ErrNotOff},
		"turned off soon":           {"echo 'off in 5 s'", ErrNotOff},
		"OFF":                       {"echo OFF", ErrNotOff},
		"exit 1":                    {"echo off; exit 1", ErrFailed},
		"killed":                    {"echo off; kill -9 $$", ErrFailed},
		"much output":               {"i=0; while [ $i -lt 2000 ]; do echo offoffoffoffoff; i=$((i+1)); done; echo on", ErrNotOff},
	} {
		e, err := do(t, tc.text, time.Minute)
		if !errors.Is(err, tc.want) || e.Off != (tc.want == nil) {
			t.Errorf("%s: %+v, %v; want %v", name, e, err, tc.want)
		}
		if len(e.Output) > maxOutput {
			t.Errorf("%s: %d bytes of evidence", name, len(e.Output))
		}
	}
	f, err := New(Options{Command: []string{filepath.Join(t.TempDir(), "none")}})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := f.Do(t.Context(), request); !errors.Is(err, ErrFailed) || e.Exit != -1 {
		t.Errorf("no such command: %+v, %v", e, err)
	}
	if _, err := New(Options{Command: []string{"fence"}}); err == nil {
		t.Error("a relative path")
	}
	for _, r := range []Request{{Peer: "node-b"}, {Action: Off}, {Action: Off, Peer: "--help"}} {
		if _, err := f.Do(t.Context(), r); !errors.Is(err, ErrFailed) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestWhatTheCommandIsTold(t *testing.T) {
	e, err := do(t, `echo "$@"; env | grep ^DYAD_ | sort; echo off`, time.Minute, "--level", "chassis")
	if err != nil {
		t.Fatal(err)
	}
	want := "--level chassis node-b\nDYAD_ACTION=off\nDYAD_CLUSTER=c1\nDYAD_EPOCH=8\nDYAD_PEER=node-b\nDYAD_PEER_ADDRESS=192.168.0.2\noff\n"
	if e.Output != want || e.Exit != 0 || e.Took <= 0 || e.Started.IsZero() {
		t.Errorf("%+v", e)
	}
}

// Neither the command nor its children outlive its time.
func TestAFenceThatHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	text := "echo off; sleep 1000 & echo $! $$ > " + pids + ".new; mv " + pids + ".new " + pids + "; wait"
	ctx, cancel := context.WithCancel(t.Context())
	f, err := New(Options{Command: []string{script(t, text)}, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		e   Evidence
		err error
	}
	done := make(chan answer, 1)
	go func() {
		e, err := f.Do(ctx, request)
		done <- answer{e, err}
	}()
	var running []string
	poll(t, "the command has started", func() bool {
		b, err := os.ReadFile(pids)
		running = strings.Fields(string(b))
		return err == nil
	})
	cancel()
	a := <-done
	if !errors.Is(a.err, ErrTimeout) || a.e.Off || !strings.Contains(a.e.Output, "off") {
		t.Errorf("%+v, %v", a.e, a.err)
	}
	for _, s := range running {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		poll(t, "process "+s+" is gone", func() bool { return !alive(pid) })
	}
	if e, err := do(t, "echo off; sleep 1000", 100*time.Millisecond); !errors.Is(err, ErrTimeout) || e.Took > 10*time.Second {
		t.Errorf("%+v, %v", e, err)
	}
}

// alive tells whether a process runs; an orphan that nobody reaps does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func poll(t *testing.T, what string, level func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !level(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
