package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
)

func testConfig(t *testing.T) config.Config {
	t.Helper()
	c := config.Default()
	c.Node, c.Address = "node-a", netip.MustParseAddr("127.0.78.1")
	c.DataDir, c.Socket = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "dyad.sock")
	c.Switches = []config.Switch{
		{Name: "vSwitch1", Interface: "lo", Alias: "Port3", Compute: true},
		{Name: "vSwitch1", Interface: "nowhere", Alias: "Port4"},
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	return c
}

func start(c config.Config) error {
	return Run(context.Background(), c, Options{Version: "test", Log: slog.New(slog.DiscardHandler)})
}

func TestInitPreparesOnce(t *testing.T) {
	c := testConfig(t)
	s, err := Init(t.Context(), c, "test")
	if err != nil || s.Mode != quorum.Solo || s.Cluster == "" {
		t.Fatalf("%+v %v", s, err)
	}
	files, err := filepath.Glob(filepath.Join(c.DataDir, "pki", "*"))
	if err != nil || len(files) != 5 {
		t.Errorf("the identity: %v %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, info.Mode(), err)
		}
	}
	if _, err := Init(t.Context(), c, "test"); err == nil || !strings.Contains(err.Error(), "belongs to node-a") {
		t.Errorf("a second init: %v", err)
	}
	if again, err := etcdnode.LoadState(c.DataDir); err != nil || again.Cluster != s.Cluster {
		t.Errorf("the refused init changed the state: %+v %v", again, err)
	}
}

// A node that can't start says why and what to do, and changes nothing.
func TestStartsThatAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, c *config.Config)
		is      error
		says    string
	}{
		"not initialised": {func(*testing.T, *config.Config) {}, etcdnode.ErrNotInitialised, "dyad init"},
		"another agent": {func(t *testing.T, c *config.Config) {
			lock, err := etcdnode.LockDir(c.DataDir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = lock.Close() })
		}, etcdnode.ErrLocked, "process"},
		"a newer release": {func(t *testing.T, c *config.Config) {
			mustInit(t, *c)
			path := filepath.Join(c.DataDir, "node.state")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b = []byte(strings.Replace(string(b), `"version": 1`, `"version": 99`, 1))
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, etcdnode.ErrNewerState, "try:"},
		"another node's directory": {func(t *testing.T, c *config.Config) { mustInit(t, *c); c.Node = "node-b" }, nil, "belongs to node-a"},
		"no authority": {func(t *testing.T, c *config.Config) {
			mustInit(t, *c)
			if err := os.Remove(filepath.Join(c.DataDir, "pki", "ca.key")); err != nil {
				t.Fatal(err)
			}
		}, nil, "ca.key is missing"},
		"broken gossip keys": {func(t *testing.T, c *config.Config) {
			mustInit(t, *c)
			if err := os.WriteFile(filepath.Join(c.DataDir, "pki", "gossip.keys"), []byte("abc\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, "gossip.keys can't be used"},
		"another cluster's store": {func(t *testing.T, c *config.Config) {
			mustInit(t, *c)
			if err := os.Mkdir(filepath.Join(c.DataDir, "store"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(c.DataDir, "store", "cluster"), []byte("node-a of cluster other\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, "belongs to node-a of cluster other"},
		"another cluster's identity": {func(t *testing.T, c *config.Config) {
			mustInit(t, *c)
			if _, err := identity.Create("other", identityOptions(*c)); err != nil {
				t.Fatal(err)
			}
		}, nil, "is of cluster other"},
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t)
			tc.prepare(t, &c)
			err := start(c)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %v with %q", err, tc.is, tc.says)
			}
		})
	}
}

func mustInit(t *testing.T, c config.Config) {
	t.Helper()
	if _, err := Init(t.Context(), c, "test"); err != nil {
		t.Fatal(err)
	}
}

func TestJoinsThatAreRefused(t *testing.T) {
	c := testConfig(t)
	if _, err := Join(context.Background(), c, "127.0.78.2:1", "dyad1.short", "test", false); err == nil || !strings.Contains(err.Error(), "not a token") ||
		strings.Contains(err.Error(), "short") {
		t.Errorf("a token that is none: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	_ = ln.Close()
	var e *api.Error
	if _, err := Join(context.Background(), c, nobody, identity.NewToken(strings.Repeat("00", 32)).Reveal(), "test", false); !errors.As(err, &e) || e.Class != api.ClassUnavailable {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := etcdnode.LoadState(c.DataDir); !errors.Is(err, etcdnode.ErrNotInitialised) {
		t.Errorf("a failed join left a state behind: %v", err)
	}
}

func TestDeclarations(t *testing.T) {
	c := testConfig(t)
	first := etcdnode.State{Node: c.Node, Cluster: "cluster-1", Mode: quorum.Solo}
	cmds := declarations(c, "test", first)(projections.State{})
	if len(cmds) != 3 {
		t.Fatalf("%d declarations, want epoch, node and switch", len(cmds))
	}
	if e, ok := cmds[0].(projections.StartEpoch); !ok || e.Epoch != 1 || e.Cluster != "cluster-1" {
		t.Errorf("first: %+v", cmds[0])
	}
	sw := cmds[2].(projections.DeclareSwitch).Switch
	if len(sw.Ports) != 2 || !sw.Compute || sw.Storage || sw.ID == "" {
		t.Errorf("the switch: %+v", sw)
	}
	// What an operator set by command, a restart does not undo.
	known := projections.State{Switches: map[string]eventlog.Switch{"vSwitch1": {Name: "vSwitch1", ID: "kept", Storage: true}}}
	known.Head.Epoch = 2
	cmds = declarations(c, "test", first)(known)
	if sw := cmds[1].(projections.DeclareSwitch).Switch; sw.Compute || !sw.Storage || sw.ID != "kept" {
		t.Errorf("after a restart: %+v", sw)
	}
}
