package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dyad/chaos/netlab"
	"dyad/cluster/config"
)

func TestPrefixFor(t *testing.T) {
	for dir, want := range map[string]string{"/run/dyad-lab": "dyad-lab", "/run/dyad-demo": "dyad-demo"} {
		if got := PrefixFor(dir); got != want {
			t.Errorf("%s: %s, want %s", dir, got, want)
		}
	}
	seen := map[string]bool{}
	for _, dir := range []string{"/run/dyad-lab", "/tmp/dyad-lab", "/run/dyad-with-a-long-name", "/run/other"} {
		p := PrefixFor(dir)
		if seen[p] || len(p) > 13 {
			t.Errorf("%s: prefix %q", dir, p)
		}
		seen[p] = true
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, ErrHeld) {
		t.Errorf("a held lock was taken: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := WaitLock(ctx, path); !errors.Is(err, ErrHeld) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for a held lock: %v", err)
	}
	unlock()
	again, err := WaitLock(t.Context(), path)
	if err != nil {
		t.Fatalf("a free lock: %v", err)
	}
	again()
}

// The agent takes the configuration that the lab writes, as it is.
func TestWriteConfig(t *testing.T) {
	l := &Lab{State{Dir: t.TempDir(), Prefix: "dyad-test", Plan: netlab.DefaultPlan()}}
	for _, name := range NodeNames() {
		n, err := l.Node(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.writeConfig(n, nil); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(n.Config, func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		if c.Node != name || c.Socket != n.Socket || c.Address != l.Plan.ClusterAddr[name] || len(c.Switches) != 2 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if _, err := l.Node("node-c"); err == nil {
		t.Error("a third node was found")
	}
}

// An operator of a lab has DYAD_SOCKET set; no node may take it for its own.
func TestEnvironment(t *testing.T) {
	t.Setenv("DYAD_SOCKET", "/elsewhere")
	t.Setenv("KEEP", "1")
	env := environment()
	if slices.Contains(env, "DYAD_SOCKET=/elsewhere") || !slices.Contains(env, "KEEP=1") {
		t.Errorf("%v", env)
	}
	if os.Getenv("DYAD_SOCKET") == "" {
		t.Error("the process's own environment was changed")
	}
}
