package node

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/cluster/witness"
	"dyad/cluster/witness/server"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// TestMembersChange brings up a pair of real agents and changes who belongs to it.
func TestMembersChange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: an agent looks after the host's addresses")
	}
	ca, cb := liveConfig(t, "node-a", "127.0.79.11"), liveConfig(t, "node-b", "127.0.79.12")
	mustInit(t, ca)
	a := run(t, ca)
	within(t, 30*time.Second, "node-a is alone and ready", func() bool { return a.mode(t) == "SOLO" })
	if _, err := Join(t.Context(), cb, apiAddress(ca), a.token(t).Reveal(), "test"); err != nil {
		t.Fatal(err)
	}
	b := run(t, cb)
	within(t, 60*time.Second, "they are a pair", func() bool { return a.mode(t) == "PAIR" && b.mode(t) == "PAIR" })
	t.Run("witness", func(t *testing.T) { witnessChanges(t, a, b) })
}

// startWitness runs a witness server until the test ends.
func startWitness(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	store, err := server.OpenStore(dir, 10)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := server.Certificate(dir, "", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() {
		done <- server.Serve(ctx, ln, store, server.Options{AllowNew: server.AllowOpen, Certificate: cert})
	}()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = store.Close()
	})
	return "https://" + ln.Addr().String() + "#" + witness.Fingerprint(cert.Certificate[0])
}

func (l *live) epoch(t *testing.T) eventlog.Epoch {
	t.Helper()
	st, err := l.client.Status(t.Context(), api.ScopeNode)
	if err != nil {
		t.Fatal(err)
	}
	return st[0].Status.Head.Epoch
}

// witnessChanges adds a witness, puts another in its place, and goes on without.
func witnessChanges(t *testing.T, a, b *live) {
	inFile := "file://" + t.TempDir()
	files := &witnesses{forget: func() {}}
	at, err := files.Parse(inFile)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := a.client.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	add := func(l *live, r api.WitnessRequest) error {
		r.Wait = 10 * time.Second
		_, err := l.client.AddWitness(t.Context(), r)
		return err
	}
	// settled: the log and the disks of both nodes have it, and it counts.
	settled := func(what string, epoch eventlog.Epoch, url string) {
		t.Helper()
		within(t, 10*time.Second, what, func() bool {
			for _, l := range []*live{a, b} {
				ws, err := l.client.Witnesses(t.Context(), api.ScopeNode)
				s, serr := etcdnode.LoadState(l.c.DataDir)
				if err != nil || serr != nil || ws[0].URL != url || s.Witness.URL != url || s.Epoch != epoch || url != "" && !ws[0].Matches {
					return false
				}
			}
			return a.mode(t) == "PAIR" && b.mode(t) == "PAIR"
		})
	}
	first := a.epoch(t)
	if err := add(a, api.WitnessRequest{URL: inFile}); err != nil {
		t.Fatal(err)
	}
	settled("the file counts", first+1, at.URL)

	server := startWitness(t)
	if err := add(b, api.WitnessRequest{URL: server}); code(err) != "witness-set" {
		t.Errorf("beside the other: %v", err)
	}
	if err := add(b, api.WitnessRequest{URL: server, Replace: true}); err != nil {
		t.Fatal(err)
	}
	ws, err := b.client.Witnesses(t.Context(), api.ScopeNode)
	if err != nil {
		t.Fatal(err)
	}
	settled("the server counts", first+2, ws[0].URL)

	// The agent that was asked to remove it broke off behind its first step: the
	// witness gives the log to nobody, until the nodes have raised the epoch.
	within(t, 10*time.Second, "back at the file", func() bool { return add(a, api.WitnessRequest{URL: inFile, Replace: true}) == nil })
	settled("the file counts again", first+3, at.URL)
	moved := quorum.Claim{Cluster: cluster.Cluster, Epoch: first + 4, Mode: quorum.Pair}
	if _, err := files.Enrol(t.Context(), at, "", moved); err != nil {
		t.Fatal(err)
	}
	if err := add(a, api.WitnessRequest{URL: inFile}); err != nil {
		t.Errorf("the change that broke off is finished: %v", err)
	}
	settled("the epoch is raised", first+4, at.URL)

	// Without a register that answers nothing is removed.
	path := strings.TrimRight(strings.TrimPrefix(at.URL, "file://"), "/")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Do(t.Context(), projections.RemoveWitness{}, api.Request{}); err == nil {
		t.Error("removed, and it was not told")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Do(t.Context(), projections.RemoveWitness{}, api.Request{Wait: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	settled("there is none", first+5, "")
	if s, err := files.Check(t.Context(), at, cluster.Cluster); err != nil || s.Claim.Epoch != first+5 || s.Claim.Mode != quorum.Pair {
		t.Errorf("what it holds at the end: %+v, %v", s.Claim, err)
	}
	within(t, 10*time.Second, "each change has started an epoch", func() bool {
		events, err := a.client.Events(t.Context(), audit.Query{Types: []string{string(eventlog.TypeEpochStarted)}, Limit: 100})
		n := 0
		for _, e := range events {
			if e.Epoch > first {
				n++
			}
		}
		return err == nil && n == 5
	})
}
