package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/failover/detect"
	"dyad/projections"
	"dyad/projections/audit"
)

// The test binary is the store's process too, as dyad is, and for tests that kill
// it an agent's.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "agent" {
		if err := agentMain(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "store" {
		if err := etcdnode.ChildMain(context.Background(), os.Args[2:], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// spoken collects what an agent logs.
type spoken struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// live is a real agent of this test.
type live struct {
	c      config.Config
	client *api.Client
	log    *spoken
	stop   func() // as planned; at the end of the test at the latest
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func liveConfig(t *testing.T, name, address string) config.Config {
	t.Helper()
	c := config.Default()
	c.Node, c.Address = name, netip.MustParseAddr(address)
	dir := t.TempDir()
	c.DataDir, c.Socket = filepath.Join(dir, "data"), filepath.Join(dir, "dyad.sock")
	c.Ports = config.Ports{API: freePort(t), Gossip: freePort(t), StorePeer: freePort(t), StoreClient: freePort(t), Pulse: freePort(t)}
	c.Failover.Profile = config.ProfileOff
	c.Failover.StepDownSettle = config.Duration(50 * time.Millisecond)
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs an agent until the test ends.
func run(t *testing.T, c config.Config) *live {
	t.Helper()
	l, _ := runUntil(t, c)
	return l
}

// runUntil runs an agent until stop is called, or the test ends.
func runUntil(t *testing.T, c config.Config) (l *live, stop func()) {
	t.Helper()
	l = &live{c: c, client: api.NewClient(api.ClientOptions{Socket: c.Socket}), log: &spoken{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, c, Options{Version: "test", Log: slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	}()
	l.stop = sync.OnceFunc(func() {
		l.client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", c.Node, err)
		}
	})
	t.Cleanup(func() {
		l.stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", c.Node, l.log)
		}
	})
	return l, l.stop
}

// first runs the first node of a cluster, and waits until it takes changes.
func first(t *testing.T, address string) *live {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: an agent looks after the host's addresses")
	}
	c := liveConfig(t, "node-a", address)
	mustInit(t, c)
	a := run(t, c)
	within(t, 30*time.Second, "node-a is alone and ready", func() bool { return a.mode(t) == "SOLO" })
	return a
}

// within polls for a level.
func within(t *testing.T, d time.Duration, what string, level func() bool) {
	t.Helper()
	end := time.After(d)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !level() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %s: %s", d, what)
		}
	}
}

func (l *live) mode(t *testing.T) string {
	st, err := l.client.Status(t.Context(), api.ScopeNode)
	if err != nil || len(st) != 1 || !st[0].Status.Writable {
		return ""
	}
	return st[0].Status.Mode
}

func (l *live) token(t *testing.T) identity.Token {
	t.Helper()
	id, err := l.client.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k := identity.NewToken(id.CAFingerprint)
	if _, err := l.client.Do(t.Context(), projections.CreateToken{Fingerprint: k.Fingerprint, TTL: time.Hour}, api.Request{}); err != nil {
		t.Fatal(err)
	}
	return k
}

// user is a client over TCP with a certificate of the cluster.
func (l *live) user(t *testing.T, name string, role api.Role) (*api.Client, *tls.Config) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.Request(key)
	if err != nil {
		t.Fatal(err)
	}
	ans, err := l.client.IssueCertificate(t.Context(), api.CertificateRequest{Name: name, Role: role, TTL: time.Hour, Request: string(request)})
	if err != nil {
		t.Fatal(err)
	}
	files, err := identity.WriteUser(t.TempDir(), key, []byte(ans.Chain))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := files.Load()
	if err != nil {
		t.Fatal(err)
	}
	c := api.NewClient(api.ClientOptions{Address: apiAddress(l.c), TLS: conf})
	t.Cleanup(c.Close)
	return c, conf
}

func code(err error) string {
	if e := api.AsError(err); e != nil {
		return e.Code
	}
	return ""
}

// TestTheRealThing forms a pair by token, with everything that can go wrong on
// the way, has everybody turned away who should be, rotates what rotates, and
// looks for the secrets in everything that came of it.
func TestTheRealThing(t *testing.T) {
	a, cb := first(t, "127.0.78.11"), liveConfig(t, "node-b", "127.0.78.12")
	k := joined(t, a, cb)
	b := run(t, cb)
	within(t, 60*time.Second, "they are a pair", func() bool { return a.mode(t) == "PAIR" && b.mode(t) == "PAIR" })

	viewer, viewerTLS := a.user(t, "vera", api.RoleViewer)
	t.Run("ports", func(t *testing.T) { turnedAway(t, a, b, viewerTLS) })
	t.Run("gossip", func(t *testing.T) { noStrangerGossips(t, a, b) })
	t.Run("roles", func(t *testing.T) { viewerMayRead(t, a, viewer) })
	before := gossipKeys(t, a, b)
	t.Run("rotation", func(t *testing.T) { rotated(t, a, b) })
	secrets := append(before, gossipKeys(t, a, b)...)
	secrets = append(secrets, strings.Split(k.Reveal(), ".")[2])
	noSecrets(t, []*live{a, b}, secrets)
}

// joined joins the node of cb, after attempts that must fail.
func joined(t *testing.T, a *live, cb config.Config) identity.Token {
	t.Helper()
	join := func(c config.Config, k identity.Token) error {
		_, err := Join(t.Context(), c, apiAddress(a.c), k.Reveal(), "test", false)
		return err
	}
	k := a.token(t)
	if err := join(cb, identity.NewToken(k.CA)); code(err) != "certificate-refused" && code(err) != "connection-lost" {
		t.Errorf("a token that was never made: %v", err)
	}
	foreign, err := identity.Create("c", identity.Options{Dir: identity.DirIn(t.TempDir()), Node: "x", Address: cb.Address})
	if err != nil {
		t.Fatal(err)
	}
	if err := join(cb, identity.NewToken(foreign.CA().Fingerprint())); code(err) != "server-untrusted" {
		t.Errorf("a token of another cluster: %v", err)
	}
	gone := a.token(t)
	if _, err := a.client.Do(t.Context(), projections.RevokeToken{ID: gone.ID}, api.Request{}); err != nil {
		t.Fatal(err)
	}
	if err := join(cb, gone); code(err) != "certificate-refused" && code(err) != "connection-lost" {
		t.Errorf("a revoked token: %v", err)
	}
	if err := join(cb, k); err != nil {
		t.Fatal(err)
	}
	// The answer was lost: the same node joins again with the same token.
	if err := os.Remove(filepath.Join(cb.DataDir, "node.state")); err != nil {
		t.Fatal(err)
	}
	if err := join(cb, k); err != nil {
		t.Fatalf("the same join again: %v", err)
	}
	// Somebody else has the token too: another name, or the name with another key.
	cc := liveConfig(t, "node-c", "127.0.78.13")
	if err := join(cc, k); code(err) != "token-used" {
		t.Errorf("another node with the token: %v", err)
	}
	cc.Node = "node-b"
	if err := join(cc, k); code(err) != "token-used" {
		t.Errorf("another key with the token: %v", err)
	}
	return k
}

func trusting(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.InsecureSkipVerify, c.VerifyConnection = true, nil
	return c
}

// answers tells whether whoever listens answers a request, and how.
func answers(url string, conf *tls.Config) (int, error) {
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}
	c := &http.Client{Transport: tr, Timeout: 5 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	return r.StatusCode, err
}

// turnedAway has everybody without a good certificate try every port.
func turnedAway(t *testing.T, a, b *live, user *tls.Config) {
	foreign, err := identity.Create("c", identity.Options{Dir: identity.DirIn(t.TempDir()), Node: "node-a", Address: a.c.Address})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := identity.Open(identityOptions(a.c))
	if err != nil {
		t.Fatal(err)
	}
	late := identityOptions(a.c)
	late.Now, late.Dir = func() time.Time { return time.Now().Add(-identity.NodeLifetime - time.Hour) }, identity.DirIn(t.TempDir())
	if err := os.CopyFS(string(late.Dir), os.DirFS(string(identityDir(a.c)))); err != nil {
		t.Fatal(err)
	}
	expired, err := identity.Open(late) // its certificate is of long ago
	if err != nil {
		t.Fatal(err)
	}
	join, err := identity.JoinTLS(identity.NewToken(mine.CA().Fingerprint()), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*live{a, b} {
		for what, at := range map[string]string{
			"the API": apiAddress(l.c) + api.PathNodes, "the store's peer port": strings.TrimPrefix(peerURL(l.c), "https://") + "/version",
			"the store's client port": strings.TrimPrefix(clientURL(l.c), "https://") + "/version",
		} {
			for who, conf := range map[string]*tls.Config{
				"nobody": trusting(&tls.Config{}), "a node of a foreign authority": trusting(foreign.ClientTLS()),
				"an expired node": trusting(expired.ClientTLS()), "an unknown token": trusting(join), "a viewer": trusting(user),
			} {
				status, err := answers("https://"+at, conf)
				if mayRead := who == "a viewer" && what == "the API"; mayRead != (err == nil && status == 200) {
					t.Errorf("%s of %s answers %s: %d %v", what, l.c.Node, who, status, err)
				}
			}
			if status, err := answers("http://"+at, nil); err == nil && status != http.StatusBadRequest {
				t.Errorf("%s of %s answers in plain: %d", what, l.c.Node, status)
			}
			if status, err := answers("https://"+at, mine.ClientTLS()); err != nil || status != 200 {
				t.Errorf("%s of %s does not answer a node: %d %v", what, l.c.Node, status, err)
			}
		}
	}
}

// noStrangerGossips has nodes without the key try to become members.
func noStrangerGossips(t *testing.T, a, b *live) {
	for what, keys := range map[string][][]byte{"no key": nil, "another key": {identity.NewGossipKey()}} {
		port := freePort(t)
		d, err := detect.New(detect.Config{
			Node: "stranger", Addr: netip.MustParseAddr("127.0.78.19"), Port: port, Keys: keys,
			Peers: []string{gossipAddress(a.c), gossipAddress(b.c)}, Emit: func(failover.Input) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		// One round of joining has gone by when both sides have turned it away.
		heard := func(l *live) bool { return strings.Count(l.log.String(), "stranger") > 0 }
		end := time.After(2500 * time.Millisecond)
		<-end
		if m := d.Members(); len(m) != 1 || heard(a) || heard(b) {
			t.Errorf("%s: members %v; a heard of it: %t, b: %t", what, m, heard(a), heard(b))
		}
		_ = d.Close()
		for _, l := range []*live{a, b} {
			st, err := l.client.Status(t.Context(), api.ScopeNode)
			if err != nil || len(st[0].Status.View.Nodes) != 1 {
				t.Errorf("%s: %s knows %v, %v", what, l.c.Node, st[0].Status.View.Nodes, err)
			}
		}
	}
}

func viewerMayRead(t *testing.T, a *live, viewer *api.Client) {
	if nodes, err := viewer.Nodes(t.Context()); err != nil || len(nodes) != 2 {
		t.Errorf("%v %v", nodes, err)
	}
	for _, verb := range api.Verbs() {
		if _, err := viewer.Command(t.Context(), api.Request{Verb: verb, Args: json.RawMessage(`{}`)}); code(err) != "role" {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if _, err := viewer.Rotate(t.Context(), api.RotateRequest{}); code(err) != "role" {
		t.Error(err)
	}
	var seen []string
	within(t, 20*time.Second, "the attempts are in the log", func() bool {
		events, err := a.client.Events(t.Context(), audit.Query{Types: []string{string(eventlog.TypeAccessDenied)}, Actors: []string{"vera"}, Limit: 100})
		seen = nil
		for _, e := range events {
			p, perr := eventlog.Payload[eventlog.DeniedPayload](e.Draft)
			if perr != nil || p.Have != "viewer" || e.Actor.Auth != api.AuthCert || !e.Source.Address.IsValid() {
				t.Errorf("%+v %+v", p, e)
			}
			seen = append(seen, p.What)
		}
		return err == nil && len(seen) > len(api.Verbs())
	})
	for _, verb := range api.Verbs() {
		if !slices.Contains(seen, verb) {
			t.Errorf("%s is not among %q", verb, seen)
		}
	}
}

// gossipKeys reads the keys of both nodes, in hex, as they lie on disk.
func gossipKeys(t *testing.T, nodes ...*live) (out []string) {
	t.Helper()
	for _, l := range nodes {
		b, err := os.ReadFile(filepath.Join(l.c.DataDir, "pki", "gossip.keys"))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.Fields(string(b))...)
	}
	return out
}

func rotated(t *testing.T, a, b *live) {
	before := gossipKeys(t, a, b)
	ans, err := b.client.Rotate(t.Context(), api.RotateRequest{GossipKey: true, Reason: "a drill"})
	if err != nil || len(ans.Nodes) != 2 {
		t.Fatalf("%+v %v", ans, err)
	}
	after := gossipKeys(t, a, b)
	raw, err := hex.DecodeString(after[0])
	if err != nil || len(after) != 2 || after[0] != after[1] || slices.Contains(before, after[0]) || identity.Fingerprint(raw) != ans.GossipKey {
		t.Errorf("the rings are not one new key: %d keys, %v", len(after), err)
	}
	for _, l := range []*live{a, b} {
		was, err := l.client.Identity(t.Context())
		if err != nil || len(was.GossipKeys) != 1 || was.GossipKeys[0] != ans.GossipKey {
			t.Errorf("%s: %v %v", l.c.Node, was.GossipKeys, err)
		}
		r, err := l.client.Rotate(t.Context(), api.RotateRequest{})
		if err != nil || r.Certificate.Fingerprint == was.Certificates[1].Fingerprint {
			t.Errorf("%s: %+v %v", l.c.Node, r, err)
		}
	}
	// With the new certificates, keys and no restart: both hear each other, and
	// the log takes changes on both.
	for i, l := range []*live{a, b} {
		st, err := l.client.Status(t.Context(), api.ScopeCluster)
		if err != nil || len(st) != 2 || st[0].Status == nil || st[1].Status == nil {
			t.Fatalf("%+v %v", st, err)
		}
		for _, v := range st[i].Status.View.Nodes {
			if v != projections.Alive {
				t.Errorf("%s sees %v", l.c.Node, st[i].Status.View.Nodes)
			}
		}
		if n := strings.Count(l.log.String(), "store restarted"); n > 0 {
			t.Errorf("%s restarted its store", l.c.Node)
		}
		r := projections.SetPool{Name: "p-" + l.c.Node, Ranges: []eventlog.Range{eventlog.PrefixRange(netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(113 + i), 0}), 24))}}
		if res, err := l.client.Do(t.Context(), r, api.Request{Wait: 10 * time.Second}); err != nil || len(res.Nodes) != 2 || !res.Nodes[0].Converged || !res.Nodes[1].Converged {
			t.Errorf("%s: %+v %v", l.c.Node, res.Nodes, err)
		}
	}
}

// forms lists how a secret could be written: as it is, decoded, and encoded anew.
func forms(secret string) map[string]string {
	out := map[string]string{"as it is": secret}
	for _, raw := range decoded(secret) {
		out["bytes"], out["hex"], out["HEX"] = string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw))
		out["decimal"] = strings.Trim(fmt.Sprint(raw), "[]")
		for name, e := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			out[name] = e.EncodeToString(raw)
		}
	}
	return out
}

func decoded(secret string) [][]byte {
	if b, err := hex.DecodeString(secret); err == nil {
		return [][]byte{b}
	}
	if b, err := base64.RawURLEncoding.DecodeString(secret); err == nil {
		return [][]byte{b}
	}
	return nil
}

// noSecrets looks for secrets in everything that agents wrote and answer.
func noSecrets(t *testing.T, nodes []*live, secrets []string) {
	t.Helper()
	places := map[string]string{}
	for _, l := range nodes {
		for _, name := range []string{"ca.key", "node.key"} {
			b, err := os.ReadFile(filepath.Join(l.c.DataDir, "pki", name))
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(b)
			// The key itself is the last part but one of its encoding.
			secrets = append(secrets, strings.Split(string(b), "\n")[2], hex.EncodeToString(block.Bytes), hex.EncodeToString(block.Bytes[36:68]))
		}
		places["the log of "+l.c.Node] = l.log.String()
		collectFiles(t, l.c, places)
		collectAnswers(t, l, places)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(lines, "/proc/self/environ") {
		if b, err := os.ReadFile(p); err == nil { // a process may be gone
			places[p] = string(b)
		}
	}
	if len(places) < 30 {
		t.Errorf("only %d places were searched", len(places))
	}
	for place, text := range places {
		for _, s := range secrets {
			for form, x := range forms(s) {
				if strings.Contains(text, x) {
					t.Errorf("a secret (%s) stands in %s", form, place)
				}
			}
		}
	}
	// The search finds what is there.
	pki, err := os.ReadFile(filepath.Join(nodes[0].c.DataDir, "pki", "gossip.keys"))
	if err != nil || !slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(string(pki), s) }) {
		t.Errorf("the search would not find a key in its own file: %v", err)
	}
}

func collectFiles(t *testing.T, c config.Config, places map[string]string) {
	t.Helper()
	err := filepath.WalkDir(c.DataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "pki" {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			places[path] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func collectAnswers(t *testing.T, l *live, places map[string]string) {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.c.Socket)
	}, DisableKeepAlives: true}
	for _, path := range []string{
		api.PathStatus, api.PathSwitches, api.PathPeers, api.PathPools, api.PathServices, api.PathNodes, api.PathAnnouncements,
		api.PathEvents + "?limit=10000", api.PathTokens, api.PathCertificates, api.PathDocument, api.PathExplain + "/203.0.113.1",
	} {
		r, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get("http://dyad" + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %v", path, r.StatusCode, err)
		}
		places[l.c.Node+" "+path] = string(b)
	}
}
