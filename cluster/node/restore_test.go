package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/cluster/node/backup"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/memlog"
	"dyad/eventlog/segment"
	"dyad/projections"
)

// The test binary is its own store, as dyad is.
// history is a log with everything in it, folded.
func history(t *testing.T, more int) ([]eventlog.Envelope, projections.State) {
	t.Helper()
	log := memlog.New(time.Now)
	var s projections.State
	rg, err := eventlog.ParseRange("203.0.113.0/28")
	if err != nil {
		t.Fatal(err)
	}
	do := func(c projections.Command) {
		t.Helper()
		drafts, err := projections.Decide(s, c)
		if err != nil {
			t.Fatal(err)
		}
		for i := range drafts {
			drafts[i].ID, drafts[i].Key = fmt.Sprint(s.Head.Seq, i), fmt.Sprint("k", s.Head.Seq)
		}
		sealed, err := log.Append(t.Context(), eventlog.Batch{Drafts: drafts, Epoch: s.Head.Epoch})
		if err != nil {
			t.Fatal(err)
		}
		s = projections.Fold(s, sealed...)
	}
	address := netip.MustParseAddr
	do(projections.StartEpoch{Epoch: 7, Mode: "PAIR", Writers: []string{"node-a", "node-b"}, Cluster: "old-cluster"})
	do(projections.JoinNode{Node: eventlog.Node{Name: "node-a", Address: address("127.0.78.1")}})
	do(projections.JoinNode{Node: eventlog.Node{Name: "node-b", Address: address("127.0.78.2")}})
	do(projections.SetPool{Name: "web", Ranges: []eventlog.Range{rg}})
	do(projections.SetService{Name: "shop"})
	for i := range more {
		do(projections.DrainNode{Node: "node-a", On: i%2 == 0})
	}
	var all []eventlog.Envelope
	for {
		run, err := log.Read(t.Context(), eventlog.Seq(len(all)), eventlog.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		if len(run) == 0 {
			return all, s
		}
		all = append(all, run...)
	}
}

// backupOf backs events up, in segments of the given size.
func backupOf(t *testing.T, all []eventlog.Envelope, size int, id *age.X25519Identity) *backup.File {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Manifest{
		Release: "v1", Cluster: "old-cluster", Node: "node-a", Mode: "PAIR", Epoch: all[len(all)-1].Epoch, Time: time.Now(),
	}, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	for rest, prev := all, (eventlog.Head{}); len(rest) > 0; {
		n := min(size, len(rest))
		b, h, err := segment.Marshal("old-cluster", prev, rest[:n])
		if err == nil {
			err = w.Segment(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		rest, prev = rest[n:], h.End
	}
	err = errors.Join(w.State([]byte("{}")), w.Secret("pki/ca.pem", []byte("the CA")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := backup.Open(bytes.NewReader(out.Bytes()), int64(out.Len()), id)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func restoreConfig(t *testing.T) config.Config {
	t.Helper()
	c := testConfig(t)
	c.Address = netip.MustParseAddr("127.0.0.1")
	for _, p := range []*int{&c.Ports.API, &c.Ports.Gossip, &c.Ports.StorePeer, &c.Ports.StoreClient, &c.Ports.Pulse} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*p = l.Addr().(*net.TCPAddr).Port
		defer l.Close()
	}
	return c
}

func restoreOptions() RestoreOptions {
	return RestoreOptions{Release: "v2", Now: time.Now, Actor: eventlog.Actor{Name: "root", Auth: "unix"}, Progress: func(_, _ eventlog.Seq) {}}
}

// readBack opens what was restored as the agent would.
func readBack(t *testing.T, c config.Config, s etcdnode.State, use func(*segment.Log, *etcdlog.Log)) {
	t.Helper()
	id, err := identity.Open(identityOptions(c))
	if err != nil {
		t.Fatal(err)
	}
	r := &restoring{c: c, o: restoreOptions(), next: s, id: id}
	segments, err := segment.Open(segmentsDir(c))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.withStore(t.Context(), func(_ context.Context, l *etcdlog.Log) error {
		use(segment.Join(l, segments), l)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A restored log has the same events, folds to the same state, and goes on in a
// new epoch of a new cluster. Old events are in segments, the rest in the store.
func TestRestore(t *testing.T) {
	all, want := history(t, 400)
	f := backupOf(t, all, 50, mustKey(t))
	c := restoreConfig(t)
	c.Retention.HotEvents = 120 // smaller than the configuration allows, for the test
	s, err := Restore(t.Context(), c, f, restoreOptions())
	if err != nil {
		t.Fatal(err)
	}
	if s.Cluster == "old-cluster" || s.Mode != quorum.Solo || s.Epoch != 7+epochLeap || len(s.Members) != 1 {
		t.Errorf("%+v", s)
	}
	if again, err := etcdnode.LoadState(c.DataDir); err != nil || again.Cluster != s.Cluster {
		t.Errorf("node.state: %+v %v", again, err)
	}
	if id, err := identity.Open(identityOptions(c)); err != nil || id.CA().Cluster() != s.Cluster {
		t.Errorf("the identity is not the new cluster's: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, "pki", "ca.pem")); err == nil {
		t.Error("the old cluster's authority came back")
	}
	readBack(t, c, s, func(whole *segment.Log, hot *etcdlog.Log) {
		floor, err := hot.Floor(t.Context())
		if err != nil || floor.Seq != 250 {
			t.Errorf("the floor is %d (%v), want 250 of %d", floor.Seq, err, len(all))
		}
		var got []eventlog.Envelope
		for {
			run, err := whole.Read(t.Context(), eventlog.Seq(len(got)), 1000)
			if err != nil {
				t.Fatal(err)
			}
			if len(run) == 0 {
				break
			}
			got = append(got, run...)
		}
		if len(got) < len(all) {
			t.Fatalf("%d events, want at least %d", len(got), len(all))
		}
		for i, e := range all {
			x, _ := eventlog.Encode(e)
			y, _ := eventlog.Encode(got[i])
			if !bytes.Equal(x, y) {
				t.Fatalf("event %d is not the same", e.Seq)
			}
		}
		x, _ := json.Marshal(want)
		y, _ := json.Marshal(projections.Fold(projections.State{}, got[:len(all)]...))
		if !bytes.Equal(x, y) {
			t.Errorf("the state differs:\n%s\n%s", x, y)
		}
		after := projections.Fold(projections.State{}, got...)
		if after.Cluster != s.Cluster || after.Mode != "SOLO" || after.Head.Epoch != s.Epoch || len(after.Nodes) != 1 || len(after.Services) != 1 {
			t.Errorf("after the restore: %+v", after)
		}
		begun := got[len(all)]
		if begun.Type != eventlog.TypeEpochStarted || !strings.Contains(string(begun.Evidence), "old-cluster") ||
			!strings.Contains(string(begun.Evidence), want.Head.Hash) || !strings.HasPrefix(begun.Reason, "restore") || begun.Actor.Name != "root" {
			t.Errorf("the new epoch says %+v %s", begun, begun.Evidence)
		}
		// Revisions and keys are there as well.
		e, err := whole.Append(t.Context(), eventlog.Batch{Epoch: s.Epoch, Drafts: []eventlog.Draft{{ID: "x", Type: eventlog.TypeStoreUp, Stream: "service/shop"}}})
		if err != nil || e[0].StreamRev != 2 {
			t.Errorf("the next event: %+v %v", e, err)
		}
		if _, err := whole.Append(t.Context(), eventlog.Batch{Epoch: s.Epoch, Drafts: []eventlog.Draft{{ID: "y", Type: eventlog.TypeStoreUp, Stream: "z", Key: "k300"}}}); !errors.Is(err, eventlog.ErrDuplicate) {
			t.Errorf("a key of the backup: %v", err)
		}
	})
}

func mustKey(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A restore that was broken off leaves no node behind, and can be repeated.
func TestRestoreBrokenOff(t *testing.T) {
	all, _ := history(t, 300)
	f := backupOf(t, all, 50, mustKey(t))
	c := restoreConfig(t)
	c.Retention.HotEvents = 100
	o := restoreOptions()
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(done, _ eventlog.Seq) {
		if done >= 250 {
			cancel()
		}
	}
	if _, err := Restore(ctx, c, f, o); err == nil {
		t.Fatal("the restore was not broken off")
	}
	if _, err := etcdnode.LoadState(c.DataDir); !errors.Is(err, etcdnode.ErrNotInitialised) {
		t.Errorf("half a restore left a node: %v", err)
	}
	s, err := Restore(t.Context(), c, f, restoreOptions())
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, c, s, func(whole *segment.Log, _ *etcdlog.Log) {
		if h, err := whole.Head(t.Context()); err != nil || h.Seq != eventlog.Seq(len(all)+2) {
			t.Errorf("the head is %v (%v)", h, err)
		}
	})
	if _, err := os.Stat(filepath.Join(c.DataDir, restoreMark)); !os.IsNotExist(err) {
		t.Errorf("the mark is left: %v", err)
	}
}

func TestRestoresThatAreRefused(t *testing.T) {
	all, _ := history(t, 3)
	f := backupOf(t, all, 50, mustKey(t))
	for name, tc := range map[string]struct {
		prepare func(c *config.Config, o *RestoreOptions)
		says    string
	}{
		"another node": {func(c *config.Config, _ *RestoreOptions) { c.Node = "node-x" }, "--node node-a"},
		"in use":       {func(c *config.Config, _ *RestoreOptions) { mustInit(t, *c) }, "belongs to node-a"},
		"not empty": {func(c *config.Config, _ *RestoreOptions) {
			if err := errors.Join(os.MkdirAll(c.DataDir, 0o700), os.WriteFile(filepath.Join(c.DataDir, "x"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "is not empty"},
		"an agent runs": {func(c *config.Config, _ *RestoreOptions) {
			lock, err := etcdnode.LockDir(c.DataDir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = lock.Close() })
		}, "another agent"},
	} {
		t.Run(name, func(t *testing.T) {
			c, o := restoreConfig(t), restoreOptions()
			tc.prepare(&c, &o)
			if _, err := Restore(t.Context(), c, f, o); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
}

// Another machine takes the backup's node's place, under its own name.
func TestRestoreInPlaceOfAnother(t *testing.T) {
	all, _ := history(t, 3)
	c, o := restoreConfig(t), restoreOptions()
	c.Node, o.From = "node-x", "node-a"
	s, err := Restore(t.Context(), c, backupOf(t, all, 50, mustKey(t)), o)
	if err != nil || s.Node != "node-x" {
		t.Fatal(s, err)
	}
	readBack(t, c, s, func(whole *segment.Log, _ *etcdlog.Log) {
		run, err := whole.Read(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if names := projections.Fold(projections.State{}, run...).NodeNames(); len(names) != 1 || names[0] != "node-b" {
			t.Errorf("the nodes are %v: one place must be free for node-x", names)
		}
	})
}

// A node whose agent is stopped is backed up from its files, segments and store.
func TestBackupOfAStoppedNode(t *testing.T) {
	all, _ := history(t, 300)
	id := mustKey(t)
	c := restoreConfig(t)
	c.Retention.HotEvents = 100
	s, err := Restore(t.Context(), c, backupOf(t, all, 50, id), restoreOptions())
	if err != nil {
		t.Fatal(err)
	}
	client := api.NewClient(api.ClientOptions{Socket: filepath.Join(t.TempDir(), "nobody")})
	defer client.Close()
	var out bytes.Buffer
	var notes []string
	m, err := Backup(t.Context(), client, &out, BackupOptions{
		DataDir: c.DataDir, Release: "v3", Now: time.Now(), Recipients: []age.Recipient{id.Recipient()},
		Progress: func(_, _ eventlog.Seq) {}, Note: func(text string) { notes = append(notes, text) },
	})
	if err != nil || m.Cluster != s.Cluster || m.Events != len(all)+2 || m.Mode != "SOLO" || m.Epoch != s.Epoch || !m.Secrets {
		t.Fatalf("%+v %v", m, err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "reading what lies on the disk") {
		t.Errorf("it says %q", notes)
	}
	f, err := backup.Open(bytes.NewReader(out.Bytes()), int64(out.Len()), id)
	if err != nil || f.Manifest.Head != m.Head {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(c.DataDir, "store-copy-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
