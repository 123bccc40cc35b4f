package node

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/cluster/quorum"
	"dyad/cluster/witness"
	"dyad/cluster/witness/server"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// TestMembersChange brings up a pair of real agents and changes who belongs to it.
func TestMembersChange(t *testing.T) {
	a, cb := first(t, "127.0.79.11"), liveConfig(t, "node-b", "127.0.79.12")
	ca := a.c
	if _, err := Join(t.Context(), cb, apiAddress(ca), a.token(t).Reveal(), "test", false); err != nil {
		t.Fatal(err)
	}
	b := run(t, cb)
	within(t, 60*time.Second, "they are a pair", func() bool { return a.mode(t) == "PAIR" && b.mode(t) == "PAIR" })
	t.Run("witness", func(t *testing.T) { witnessChanges(t, a, b) })
	t.Run("certificates", func(t *testing.T) { certificatesAreRevoked(t, a, b) })
	cc := liveConfig(t, "node-b", "127.0.79.13")
	token := replacedBy(t, a, b, cc)
	if _, err := Join(t.Context(), cc, apiAddress(ca), token, "test", false); err != nil {
		t.Fatal(err)
	}
	c := run(t, cc) // at the level of the pair: it lives until the test ends
	within(t, 60*time.Second, "they are a pair again", func() bool { return a.mode(t) == "PAIR" && c.mode(t) == "PAIR" })
	t.Run("removed", func(t *testing.T) { removedIsRefused(t, cb, a, c) })
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

// certificatesAreRevoked takes certificates of users back: one, and all of a name.
func certificatesAreRevoked(t *testing.T, a, b *live) {
	fingerprint := func(conf *tls.Config) string { return identity.Fingerprint(conf.Certificates[0].Certificate[0]) }
	_, alice := a.user(t, "alice", api.RoleAdmin)
	_, bob := a.user(t, "bob", api.RoleViewer)
	_, bob2 := b.user(t, "bob", api.RoleViewer)
	// The connection stays open over the revocation.
	at := map[*live]*http.Client{}
	for _, l := range []*live{a, b} {
		at[l] = &http.Client{Transport: &http.Transport{TLSClientConfig: trusting(alice), MaxIdleConnsPerHost: 1}, Timeout: 5 * time.Second}
	}
	status := func(l *live, conf *tls.Config) int {
		code, err := answers("https://"+apiAddress(l.c)+api.PathNodes, trusting(conf))
		if err != nil {
			return 0
		}
		return code
	}
	kept := func(l *live) int {
		r, err := at[l].Get("https://" + apiAddress(l.c) + api.PathNodes)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		return r.StatusCode
	}
	for _, l := range []*live{a, b} {
		if kept(l) != 200 || status(l, bob) != 200 || status(l, bob2) != 200 {
			t.Fatalf("%s does not let them in", l.c.Node)
		}
	}
	for _, c := range []projections.Command{projections.RevokeCertificate{Name: "alice"}, projections.RevokeCertificate{Fingerprint: fingerprint(bob)}} {
		if _, err := b.client.Do(t.Context(), c, api.Request{Wait: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []*live{a, b} {
		if got := []int{kept(l), status(l, alice), status(l, bob), status(l, bob2)}; !slices.Equal(got, []int{403, 403, 403, 200}) {
			t.Errorf("%s answers %v", l.c.Node, got)
		}
		id, err := l.client.Identity(t.Context())
		if err != nil || len(id.Revoked) != 2 {
			t.Errorf("%s lists %+v, %v", l.c.Node, id.Revoked, err)
		}
	}
	// Nothing is in the way of a new one.
	_, again := a.user(t, "alice", api.RoleViewer)
	if status(a, again) != 200 || status(b, again) != 200 {
		t.Error("a certificate that was issued afterwards is refused")
	}
	deniedBy(t, a, "alice", "bob")
	endsWithItsCaller(t, a)
}

// endsWithItsCaller revokes the certificate of a user who follows the log.
func endsWithItsCaller(t *testing.T, l *live) {
	t.Helper()
	_, carol := l.user(t, "carol", api.RoleViewer)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting(carol), DisableKeepAlives: true}, Timeout: 30 * time.Second}
	r, err := c.Get("https://" + apiAddress(l.c) + api.PathEventsFollow + "?type=" + string(eventlog.TypeCertificateRevoked))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if _, err := l.client.Do(t.Context(), projections.RevokeCertificate{Name: "carol"}, api.Request{Wait: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if last, err := io.ReadAll(r.Body); err != nil {
		t.Errorf("what she follows does not end: %q, %v", last, err)
	}
}

// deniedBy waits until the log says that these were turned away.
func deniedBy(t *testing.T, l *live, names ...string) {
	t.Helper()
	within(t, 20*time.Second, "the attempts are in the log", func() bool {
		for _, name := range names {
			events, err := l.client.Events(t.Context(), audit.Query{Types: []string{string(eventlog.TypeAccessDenied)}, Actors: []string{name}, Limit: 100})
			if err != nil || len(events) == 0 || !strings.Contains(events[0].Reason, "revoked") {
				return false
			}
		}
		return true
	})
}

// replacedBy stops b, and lets the machine of next join in its place. It returns
// the token.
func replacedBy(t *testing.T, a, b *live, next config.Config) string {
	t.Helper()
	for _, c := range []projections.Command{
		projections.SetPool{Name: "web", Ranges: []eventlog.Range{eventlog.PrefixRange(netip.MustParsePrefix("203.0.113.0/28"))}},
		projections.SetService{Name: "shop", Prefer: "node-b"},
		projections.DeclareSwitch{Switch: eventlog.Switch{Name: "vSwitch1", Compute: true, Ports: []eventlog.Port{{Node: "node-b", Interface: "eth1"}}}},
	} {
		if _, err := a.client.Do(t.Context(), c, api.Request{Wait: 10 * time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	token := a.newToken(t)
	ask := func(node, with string, k identity.Token) (api.ReplaceNodeResult, error) {
		return a.client.ReplaceNode(t.Context(), api.ReplaceNodeRequest{Node: node, With: with, Token: k.Fingerprint, TTL: time.Hour, Reason: "mainboard"})
	}
	for node, want := range map[string]string{"node-b": "peer-alive", "node-a": "remove-self", "node-z": "node-unknown"} {
		if _, err := ask(node, "", token); code(err) != want {
			t.Errorf("%s: %v, want %s", node, err, want)
		}
	}
	b.stop()
	within(t, 30*time.Second, "node-a goes on alone", func() bool { return a.mode(t) == "SOLE" })
	kept := func() (prefers, port string) {
		services, err := a.client.Services(t.Context())
		switches, serr := a.client.Switches(t.Context())
		if err != nil || serr != nil || len(services) != 1 || len(switches) != 1 || len(switches[0].Ports) != 1 {
			t.Fatalf("%+v %v, %+v %v", services, err, switches, serr)
		}
		return services[0].Preferred, switches[0].Ports[0].Node
	}
	within(t, 10*time.Second, "node-b is heard no more", func() bool {
		_, err := ask("node-b", "node-a", token)
		return code(err) == "node-exists"
	})
	var res api.ReplaceNodeResult
	var err error
	within(t, 30*time.Second, "node-b is replaced", func() bool {
		res, err = ask("node-b", "node-c", a.newToken(t))
		return api.AsError(err) == nil || api.AsError(err).Class != api.ClassUnavailable
	})
	if s, p := kept(); err != nil || !res.Removed || s != "node-c" || p != "node-c" {
		t.Errorf("%+v, %v: the service prefers %s, the port is of %s", res, err, s, p)
	}
	// The answer was lost, and the name was another one.
	if _, err = ask("node-c", "node-b", token); code(err) != "node-unknown" {
		t.Errorf("a node that never was: %v", err)
	}
	for range 2 {
		token = a.newToken(t)
		res, err = ask("node-b", "", token)
		if s, _ := kept(); err != nil || res.Removed || res.API != apiAddress(a.c) || s != "node-c" {
			t.Errorf("again: %+v, %v", res, err)
		}
	}
	within(t, 30*time.Second, "node-a is alone", func() bool { return a.mode(t) == "SOLO" })
	return token.Reveal()
}

// newToken draws a token that the log does not know yet.
func (l *live) newToken(t *testing.T) identity.Token {
	t.Helper()
	id, err := l.client.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return identity.NewToken(id.CAFingerprint)
}

// removedIsRefused shows the certificate of the machine that was replaced.
func removedIsRefused(t *testing.T, gone config.Config, nodes ...*live) {
	old, err := identity.Open(identityOptions(gone))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range nodes {
		if status, err := answers("https://"+apiAddress(l.c)+api.PathNodes, old.ClientTLS()); err != nil || status != 403 {
			t.Errorf("%s answers the machine that was replaced: %d %v", l.c.Node, status, err)
		}
	}
	deniedBy(t, nodes[0], "node-b")
	// The new one, of the same name, renews its certificate and is let in.
	if _, err := nodes[1].client.Rotate(t.Context(), api.RotateRequest{}); err != nil {
		t.Fatal(err)
	}
	own, err := identity.Open(identityOptions(nodes[1].c))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range nodes {
		if status, err := answers("https://"+apiAddress(l.c)+api.PathNodes, own.ClientTLS()); err != nil || status != 200 {
			t.Errorf("%s answers the new machine: %d %v", l.c.Node, status, err)
		}
	}
}
