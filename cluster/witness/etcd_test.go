package witness

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"dyad/cluster/quorum"
	"dyad/cluster/witness/registertest"
)

// startEtcd runs an etcd of one member and returns host:port of its clients.
func startEtcd(t *testing.T) (host string, stop func()) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir, c.LogLevel = t.TempDir(), "error"
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientUrls, c.ListenPeerUrls = local, local
	c.AdvertiseClientUrls, c.AdvertisePeerUrls = local, local
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		e.Close()
		t.Fatal("etcd is not ready after a minute")
	}
	closed := false
	stop = func() {
		if !closed {
			closed = true
			e.Close()
		}
	}
	t.Cleanup(stop)
	return e.Clients[0].Addr().String(), stop
}

func TestEtcd(t *testing.T) {
	host, stop := startEtcd(t)
	open := func(t testing.TB, id string, timeout time.Duration) Witness {
		w, err := Open("etcd://"+host+"/dyad/"+id+"?insecure=true", Options{Cluster: id, Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		return w
	}
	registertest.Run(t, func(t testing.TB, id string) quorum.Register { return open(t, id, MaxTimeout) })

	w := open(t, "c", DefaultTimeout)
	pair := registertest.Pair("c", 1)
	if _, err := w.Create(t.Context(), pair); err != nil {
		t.Fatal(err)
	}
	if r := w.Check(t.Context()); r.Err != nil || r.Claim != pair || r.Kind != KindEtcd || r.Latency <= 0 {
		t.Errorf("%+v", r)
	}
	raw, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + host}})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for name, text := range map[string]string{"no JSON": "hello", "no claim": "{}", "another cluster's": `{"cluster":"d","epoch":1,"mode":"PAIR"}`} {
		if _, err := raw.Put(t.Context(), "/dyad/c", text); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Swap(t.Context(), pair, registertest.Sole("c", 2, "node-a")); !errors.Is(err, quorum.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := raw.Delete(t.Context(), "/dyad/c"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Swap(t.Context(), pair, registertest.Sole("c", 2, "node-a")); !errors.Is(err, quorum.ErrUnknown) {
		t.Errorf("wiped: %v", err)
	}
	quick := open(t, "c", 200*time.Millisecond)
	stop()
	start := time.Now()
	if _, err := quick.Swap(context.Background(), pair, registertest.Sole("c", 2, "node-a")); !errors.Is(err, quorum.ErrUnavailable) {
		t.Errorf("stopped: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestEtcdFiles(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for raw, why := range map[string]string{
		"etcd://a:1/x?ca=" + dir + "/none": "no such file",
		"etcd://a:1/x?ca=" + ca:            "no certificate in PEM",
	} {
		if _, err := Open(raw, Options{Cluster: "c"}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", raw, err, why)
		}
	}
}
