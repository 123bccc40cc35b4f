package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/identity"
	"dyad/cluster/node/backup"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// far is an etcd that knows nothing of dyad: with etcd's own limits, and closed to
// whoever shows no certificate of its authority.
type far struct {
	t    *testing.T
	conf *embed.Config
	e    *embed.Etcd
	pki  identity.Dir
}

const farAddress = "127.0.78.30"

func startFar(t *testing.T) *far {
	t.Helper()
	f := &far{t: t, pki: identity.DirIn(t.TempDir())}
	if _, err := identity.Create("etcd", identity.Options{Dir: f.pki, Node: "etcd", Address: netip.MustParseAddr(farAddress)}); err != nil {
		t.Fatal(err)
	}
	at := func(port int) []url.URL {
		return []url.URL{{Scheme: "https", Host: fmt.Sprintf("%s:%d", farAddress, port)}}
	}
	c := embed.NewConfig()
	c.Dir, c.LogLevel = t.TempDir(), "fatal"
	c.ListenClientUrls, c.ListenPeerUrls = at(freePort(t)), at(freePort(t))
	c.AdvertiseClientUrls, c.AdvertisePeerUrls = c.ListenClientUrls, c.ListenPeerUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ClientTLSInfo = transport.TLSInfo{CertFile: f.pki.NodeCert(), KeyFile: f.pki.NodeKey(), TrustedCAFile: f.pki.CACert(), ClientCertAuth: true}
	c.PeerTLSInfo = c.ClientTLSInfo
	f.conf = c
	f.start()
	t.Cleanup(f.stop)
	return f
}

func (f *far) start() {
	f.t.Helper()
	var err error
	if f.e, err = embed.StartEtcd(f.conf); err != nil {
		f.t.Fatal(err)
	}
	select {
	case <-f.e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		f.t.Fatal("etcd is not ready after a minute")
	}
}

func (f *far) stop() {
	if f.e != nil {
		f.e.Close()
		f.e = nil
	}
}

// config is a node's whose log lies there.
func (f *far) config(name, address string) config.Config {
	c := liveConfig(f.t, name, address)
	c.Retention.HotEvents = 4096
	c.Store = config.Store{Endpoints: []string{f.conf.ListenClientUrls[0].String()}, CA: f.pki.CACert(), Cert: f.pki.NodeCert(), Key: f.pki.NodeKey()}
	if err := c.Finish(); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// client is the operator's of that etcd.
func (f *far) client(c config.Config) *clientv3.Client {
	f.t.Helper()
	cc, _, err := externalLog(c, "none")
	if err != nil {
		f.t.Fatal(err)
	}
	client, err := clientv3.New(cc)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = client.Close() })
	return client
}

// pair is two nodes that share that etcd.
func (f *far) pair() (a, b *live, stopB func()) {
	t := f.t
	ca, cb := f.config("node-a", "127.0.78.31"), f.config("node-b", "127.0.78.32")
	mustInit(t, ca)
	a = run(t, ca)
	within(t, 30*time.Second, "node-a writes", func() bool { return a.mode(t) == "EXTERNAL" })
	if _, err := Join(t.Context(), cb, apiAddress(ca), a.token(t).Reveal(), "test", false); err != nil {
		t.Fatal(err)
	}
	b, stopB = runUntil(t, cb)
	within(t, 30*time.Second, "node-b writes", func() bool { return b.mode(t) == "EXTERNAL" })
	return a, b, stopB
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: an agent looks after the host's addresses")
	}
}

func (l *live) status(t *testing.T) api.Status {
	t.Helper()
	st, err := l.client.Status(t.Context(), api.ScopeNode)
	if err != nil || len(st) != 1 || st[0].Status == nil {
		return api.Status{}
	}
	return *st[0].Status
}

func (l *live) pool(t *testing.T, n int) error {
	t.Helper()
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(n), 0}), 24)
	_, err := l.client.Do(t.Context(), projections.SetPool{Name: fmt.Sprint("p", n), Ranges: []eventlog.Range{eventlog.PrefixRange(p)}}, api.Request{Wait: 10 * time.Second})
	return err
}

// Two nodes share an etcd of somebody else's; a cluster beside them does too.
func TestExternalStore(t *testing.T) {
	needsRoot(t)
	f := startFar(t)
	other := f.config("node-x", "127.0.78.33")
	mustInit(t, other)
	x := run(t, other)
	a, b, _ := f.pair()
	within(t, 30*time.Second, "the other cluster writes", func() bool { return x.mode(t) == "EXTERNAL" })
	for i, l := range []*live{a, b, x} {
		if err := l.pool(t, i+1); err != nil {
			t.Errorf("%s: %v", l.c.Node, err)
		}
	}
	within(t, 10*time.Second, "both have both", func() bool { return a.status(t).Counts["pools"] == 2 && b.status(t).Counts["pools"] == 2 })
	if got := x.status(t); got.Counts["pools"] != 1 || got.Counts["nodes"] != 1 {
		t.Errorf("the other cluster has %v", got.Counts)
	}
	if st := b.status(t); st.Head.Epoch != 1 || st.StorePID != 0 || len(st.External) != 1 {
		t.Errorf("node-b: epoch %d, store %d, external %v", st.Head.Epoch, st.StorePID, st.External)
	}
	for _, l := range []*live{a, b} {
		if _, err := os.Stat(storeDir(l.c)); !os.IsNotExist(err) {
			t.Errorf("%s has a store of its own: %v", l.c.Node, err)
		}
	}
	t.Run("refused", func(t *testing.T) { f.refuses(t, a, b) })
	t.Run("backup", func(t *testing.T) { f.backs(t, a) })
	t.Run("large", func(t *testing.T) { tooLarge(t, a) })
	t.Run("rights", func(t *testing.T) { f.needsOnlyItsPrefix(t, a) })
}

// needsOnlyItsPrefix: rights on the keys below the prefix are all that is needed;
// without them the node says so.
func (f *far) needsOnlyItsPrefix(t *testing.T, a *live) {
	client, ctx := f.client(a.c), t.Context()
	end, rw := clientv3.GetPrefixRangeEnd(config.DefaultPrefix), clientv3.PermissionType(clientv3.PermReadWrite)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.RoleAdd(ctx, "dyad"))
	must(client.RoleGrantPermission(ctx, "dyad", config.DefaultPrefix, end, rw))
	must(client.UserAddWithOptions(ctx, "etcd", "", &clientv3.UserAddOptions{NoPassword: true})) // the certificate's name
	must(client.UserGrantRole(ctx, "etcd", "dyad"))
	must(client.UserAdd(ctx, "root", "secret"))
	must(client.UserGrantRole(ctx, "root", "root"))
	must(client.AuthEnable(ctx))
	if err := a.pool(t, 4); err != nil {
		t.Errorf("with rights on its prefix: %v", err)
	}
	admin, err := clientv3.New(clientv3.Config{Endpoints: client.Endpoints(), TLS: f.adminTLS(a.c), Username: "root", Password: "secret"})
	must(admin, err)
	defer admin.Close()
	must(admin.UserRevokeRole(ctx, "etcd", "dyad"))
	within(t, 10*time.Second, "it says that it may not", func() bool {
		st := a.status(t)
		return !st.Writable && strings.Contains(st.Why, "permission denied")
	})
	must(admin.UserGrantRole(ctx, "etcd", "dyad"))
	within(t, 10*time.Second, "it writes again", func() bool { return a.mode(t) == "EXTERNAL" })
}

func (f *far) adminTLS(c config.Config) *tls.Config {
	cc, _, err := externalLog(c, "none")
	if err != nil {
		f.t.Fatal(err)
	}
	return cc.TLS
}

// refuses: what makes no sense with an external store is refused, with the reason.
func (f *far) refuses(t *testing.T, a, b *live) {
	if _, err := a.client.Takeover(t.Context(), api.TakeoverRequest{Peer: "node-b", Reason: "test"}); code(err) != "external-store" {
		t.Errorf("takeover: %v", err)
	}
	if _, err := a.client.AddWitness(t.Context(), api.WitnessRequest{URL: "file://" + t.TempDir()}); code(err) != "external-store" {
		t.Errorf("a witness: %v", err)
	}
	own := liveConfig(t, "node-c", "127.0.78.34")
	if _, err := Join(t.Context(), own, apiAddress(a.c), a.token(t).Reveal(), "test", false); code(err) != "two-nodes" && code(err) != "too-many-nodes" {
		t.Errorf("a third node: %v", err)
	}
	wrong := f.config("node-d", "127.0.78.35")
	wrong.Store.Endpoints = []string{fmt.Sprintf("https://%s:%d", farAddress, freePort(t))}
	if _, err := Init(t.Context(), wrong, "test"); err == nil || !strings.Contains(err.Error(), "can't be written") {
		t.Errorf("init without its etcd: %v", err)
	}
	if _, err := etcdnode.LoadState(wrong.DataDir); err == nil {
		t.Error("a refused init left a node")
	}
	moved := b.c
	moved.DataDir = t.TempDir()
	if err := etcdnode.SaveState(moved.DataDir, etcdnode.State{Cluster: "c", Node: "node-b", Mode: "PAIR", Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	if err := start(moved); err == nil || !strings.Contains(err.Error(), "dyad restore") {
		t.Errorf("a node that had a store of its own: %v", err)
	}
}

// backs backs the log up, verifies it, and restores it as a cluster of its own.
func (f *far) backs(t *testing.T, a *live) {
	id := mustKey(t)
	var out bytes.Buffer
	o := BackupOptions{
		DataDir: a.c.DataDir, Release: "test", Now: time.Now(), Recipients: []age.Recipient{id.Recipient()},
		Progress: func(_, _ eventlog.Seq) {}, Note: func(text string) { t.Errorf("it says %q", text) },
	}
	m, err := Backup(t.Context(), a.client, &out, o)
	if err != nil || m.Mode != "EXTERNAL" {
		t.Fatalf("%+v %v", m, err)
	}
	v, err := a.client.Verify(t.Context(), true, func(_, _ eventlog.Seq) {})
	if err != nil || len(v.Damage) > 0 || v.Events < m.Events || len(v.Others) != 1 || !v.Others[0].Same {
		t.Errorf("%+v %v", v, err)
	}
	file, err := backup.Open(bytes.NewReader(out.Bytes()), int64(out.Len()), id)
	if err != nil {
		t.Fatal(err)
	}
	c := f.config("node-r", "127.0.78.36")
	ro := restoreOptions()
	ro.From = "node-a"
	s, err := Restore(t.Context(), c, file, ro)
	if err != nil || s.External != config.DefaultPrefix || s.Cluster == m.Cluster {
		t.Fatalf("%+v %v", s, err)
	}
	r := run(t, c)
	within(t, 30*time.Second, "the restored one writes", func() bool { return r.mode(t) == "EXTERNAL" })
	if st := r.status(t); st.Head.Epoch != 1+epochLeap || st.Counts["pools"] != 2 {
		t.Errorf("the restored one: epoch %d, %v", st.Head.Epoch, st.Counts)
	}
	again := f.config("node-q", "127.0.78.37")
	broken, cancel := context.WithCancel(t.Context())
	ro.Progress = func(_, _ eventlog.Seq) { cancel() }
	before := keysBelow(t, f, c)
	if _, err := Restore(broken, again, file, ro); err == nil {
		t.Error("a restore that was broken off says it worked")
	}
	if after := keysBelow(t, f, c); after != before {
		t.Errorf("a restore that was broken off left clusters behind: %d, were %d", after, before)
	}
}

// keysBelow counts the clusters whose log the etcd holds.
func keysBelow(t *testing.T, f *far, c config.Config) int {
	t.Helper()
	resp, err := f.client(c).Get(t.Context(), config.DefaultPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, kv := range resp.Kvs {
		found[strings.Split(string(kv.Key), "/")[1]] = true
	}
	return len(found)
}

// tooLarge: an etcd with its own limits takes many changes at once, only not as one.
func tooLarge(t *testing.T, a *live) {
	var all projections.Apply
	for i := range 100 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), 0}), 24)
		all.Commands = append(all.Commands, projections.SetPool{Name: fmt.Sprint("l", i), Ranges: []eventlog.Range{eventlog.PrefixRange(p)}})
	}
	if _, err := a.client.Do(t.Context(), all, api.Request{}); code(err) != "too-large" {
		t.Errorf("100 changes as one: %v", err)
	}
	done := make(chan error, len(all.Commands))
	for _, c := range all.Commands {
		go func() {
			_, err := a.client.Do(t.Context(), c, api.Request{})
			done <- err
		}()
	}
	for range all.Commands {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// While the etcd is away changes are refused with the reason, the rest goes on;
// facts come later, also those of a node that starts meanwhile.
func TestExternalStoreAway(t *testing.T) {
	needsRoot(t)
	f := startFar(t)
	a, b, stopB := f.pair()
	if err := a.pool(t, 1); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "no fact waits", func() bool { return a.status(t).Pending == 0 && b.status(t).Counts["pools"] == 1 })
	f.stop()
	within(t, 10*time.Second, "the nodes notice", func() bool { return !a.status(t).Writable && !b.status(t).Writable })
	st := a.status(t)
	if st.Mode != "EXTERNAL" || !strings.Contains(st.Why, "does not answer") || !strings.Contains(st.Why, "try:") {
		t.Errorf("it says %s, %q", st.Mode, st.Why)
	}
	e := api.AsError(a.pool(t, 2))
	if e == nil || e.Class != api.ClassUnavailable || !strings.Contains(e.Why, "external store") {
		t.Errorf("a change: %v", e)
	}
	if pools, err := a.client.Pools(t.Context()); err != nil || len(pools) != 1 {
		t.Errorf("reading: %v %v", pools, err)
	}
	err := a.client.RecordFact(t.Context(), api.FactRequest{Type: eventlog.TypeDrillStarted, Data: eventlog.DrillPayload{Drill: "away"}})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "facts wait in the journal", func() bool { return a.status(t).Pending > 0 })
	stopB()
	b, _ = runUntil(t, b.c)
	within(t, 20*time.Second, "node-b starts from its checkpoint", func() bool { return b.status(t).Counts["pools"] == 1 })
	if st := b.status(t); st.Writable || st.Mode != "EXTERNAL" {
		t.Errorf("node-b: %s %v", st.Mode, st.Writable)
	}
	f.start()
	within(t, 30*time.Second, "both write", func() bool { return a.mode(t) == "EXTERNAL" && b.mode(t) == "EXTERNAL" })
	within(t, 30*time.Second, "no fact waits", func() bool { return a.status(t).Pending == 0 && b.status(t).Pending == 0 })
	within(t, 10*time.Second, "node-b has the fact of the time between", func() bool {
		found, err := b.client.Events(t.Context(), audit.Query{Types: []string{string(eventlog.TypeDrillStarted)}})
		return err == nil && len(found) == 1
	})
	if err := b.pool(t, 2); err != nil {
		t.Error(err)
	}
	f.lost(a, b)
}

// lost: an etcd that lost the log takes nothing, and withdraws nothing.
func (f *far) lost(a, b *live) {
	t, client := f.t, f.client(a.c)
	if _, err := client.Delete(t.Context(), config.DefaultPrefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*live{a, b} {
		within(t, 10*time.Second, l.c.Node+" refuses", func() bool {
			st := l.status(t)
			return !st.Writable && strings.Contains(st.Why, "0 events of at least")
		})
		if st := l.status(t); st.Counts["pools"] != 2 || st.Counts["nodes"] != 2 {
			t.Errorf("%s forgot what it knew: %v", l.c.Node, st.Counts)
		}
	}
	resp, err := client.Get(t.Context(), config.DefaultPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || resp.Count != 0 {
		t.Errorf("a new log was begun: %d keys, %v", resp.Count, err)
	}
}

// A node that was removed never writes again, and does not come back by itself.
func TestExternalNodeRemoved(t *testing.T) {
	needsRoot(t)
	f := startFar(t)
	a, b, stopB := f.pair()
	r, err := a.client.RemoveNode(t.Context(), api.RemoveNodeRequest{Node: "node-b", Reason: "test"})
	if err != nil || r.Epoch != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	removed := func() bool {
		st := b.status(t)
		return st.Mode == "STALE" && !st.Writable && strings.Contains(st.Why, "removed")
	}
	within(t, 10*time.Second, "node-b knows", removed)
	if err := b.pool(t, 1); code(err) != "log-not-writable" {
		t.Errorf("a change at the removed node: %v", err)
	}
	stopB()
	b, _ = runUntil(t, b.c)
	within(t, 20*time.Second, "node-b still knows", removed)
	if st := a.status(t); st.Counts["nodes"] != 1 || !st.Writable {
		t.Errorf("node-a: %v %v", st.Counts, st.Writable)
	}
	again := f.config("node-b", "127.0.78.38")
	if _, err := Join(t.Context(), again, apiAddress(a.c), a.token(t).Reveal(), "test", false); err != nil {
		t.Fatal(err)
	}
	n := run(t, again)
	within(t, 30*time.Second, "a new node-b writes", func() bool { return n.mode(t) == "EXTERNAL" })
}

// Old events leave an external store as they leave one's own.
func TestExternalRetention(t *testing.T) {
	needsRoot(t)
	f := startFar(t)
	a, b, _ := f.pair()
	cluster := a.status(t).Cluster
	err := withExternal(a.c, cluster, func(log *etcdlog.Log) error {
		for n := 0; n < 10_000; {
			var drafts []eventlog.Draft
			for range 40 {
				n++
				drafts = append(drafts, eventlog.Draft{ID: fmt.Sprint("f", n), Type: eventlog.TypeStoreUp, Stream: "s"})
			}
			if _, err := log.Append(t.Context(), eventlog.Batch{Epoch: 1, Drafts: drafts}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Minute, "both have sealed, and the log is trimmed", func() bool { return a.status(t).Floor.Seq > 0 && b.status(t).Floor.Seq > 0 })
	first, err := b.client.Events(t.Context(), audit.Query{After: 0, Limit: 1})
	if err != nil || len(first) != 1 {
		t.Errorf("the log: %v %v", first, err)
	}
	v, err := b.client.Verify(t.Context(), true, func(_, _ eventlog.Seq) {})
	if err != nil || len(v.Damage) > 0 || v.Segments == 0 {
		t.Errorf("%+v %v", v, err)
	}
	left, err := f.client(a.c).Get(t.Context(), config.DefaultPrefix+cluster+"/log/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || left.Count == 0 || left.Count >= int64(v.Events) {
		t.Errorf("the store holds %d of %d events: %v", left.Count, v.Events, err)
	}
}
