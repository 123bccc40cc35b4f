package etcdnode

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster/identity"
	"dyad/eventlog/etcdlog"
)

func nodeIdentity(t *testing.T, name string, from *identity.Store) *identity.Store {
	t.Helper()
	o := identity.Options{Dir: identity.DirIn(t.TempDir()), Node: name, Address: netip.MustParseAddr("127.0.0.1")}
	if from == nil {
		s, err := identity.Create("c-1", o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	key, err := identity.PendingKey(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := from.Grant(key.Public(), name, o.Address)
	if err != nil {
		t.Fatal(err)
	}
	s, err := identity.Join(o, key, g)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func overTLS(c ServeConfig, d identity.Dir) ServeConfig {
	https := func(s string) string { return strings.Replace(s, "http://", "https://", 1) }
	c.PeerURL, c.ClientURL = https(c.PeerURL), https(c.ClientURL)
	for name, u := range c.Members {
		c.Members[name] = https(u)
	}
	c.TLS = &TLS{Cert: d.NodeCert(), Key: d.NodeKey(), CA: d.CACert(), Host: identity.Host("c-1")}
	return c
}

func dialTLS(t *testing.T, c ServeConfig, id *identity.Store) *clientv3.Client {
	t.Helper()
	cc := etcdlog.ClientConfig(c.ClientURL)
	cc.TLS = id.ClientTLS()
	client, err := clientv3.New(cc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// ask tries to get an answer of a listener: the first bytes, or an error. The
// serial is that of the certificate it showed.
func askOver(url string, conf *tls.Config) (answer, serial string, err error) {
	at := strings.TrimPrefix(url, "https://")
	c, err := net.DialTimeout("tcp", at, 2*time.Second)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", "", err
	}
	var rw io.ReadWriter = c
	if conf != nil {
		conf = conf.Clone()
		conf.NextProtos = []string{"http/1.1"}
		tc := tls.Client(c, conf)
		if err := tc.Handshake(); err != nil {
			return "", "", err
		}
		rw, serial = tc, tc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if _, err := fmt.Fprintf(rw, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return "", serial, err
	}
	line, err := bufio.NewReader(rw).ReadString('\n')
	return strings.TrimSpace(line), serial, err
}

// TestThePairOverTLS forms a pair, has everybody without a node's certificate
// turned away at every port, and renews certificates under a running store.
func TestThePairOverTLS(t *testing.T) {
	ctx := testContext(t, 90*time.Second)
	ida := nodeIdentity(t, "a", nil)
	idb := nodeIdentity(t, "b", ida)
	ca := overTLS(solo("a", t.TempDir(), freeURL(), freeURL()), ida.Dir())
	cb := overTLS(solo("b", t.TempDir(), freeURL(), freeURL()), idb.Dir())
	sa, _ := start(t, ca)
	ready(t, sa)
	client := dialTLS(t, ca, ida)
	la := openLog(t, client)
	put(t, la, draft("x", 1))
	id, members, err := AddLearner(ctx, client, "b", cb.PeerURL)
	if err != nil {
		t.Fatal(err)
	}
	cb.Members, cb.Join = members, true
	sb, _ := start(t, cb)
	ready(t, sb)
	if err := PromoteWhenEqual(ctx, client, id, ida.ClientTLS()); err != nil {
		t.Fatal(err)
	}
	for conf, want := range map[*tls.Config]map[uint64]bool{ida.ClientTLS(): {id: false, id + 1: true}, nil: nil} {
		for member, left := range want {
			if got, err := hasLeft(ctx, cb.PeerURL, conf, member); err != nil || got != left {
				t.Errorf("whether %x has left: %v, %v", member, got, err)
			}
		}
		if _, err := hasLeft(ctx, cb.PeerURL, conf, id); (err != nil) != (conf == nil) {
			t.Errorf("asked with %v: %v", conf, err)
		}
	}
	urls := map[string]string{"peer a": ca.PeerURL, "peer b": cb.PeerURL, "client a": ca.ClientURL, "client b": cb.ClientURL}
	turnedAway(t, urls, ida)

	pids := []int{sa.PID(), sb.PID()}
	for what, url := range urls {
		own := map[byte]*identity.Store{'a': ida, 'b': idb}[what[len(what)-1]]
		_, before, err := askOver(url, ida.ClientTLS())
		if err != nil || before != own.Current().Leaf.SerialNumber.String() {
			t.Errorf("%s shows %s (%v)", what, before, err)
		}
		if err := own.Renew("test"); err != nil {
			t.Fatal(err)
		}
		if _, after, err := askOver(url, ida.ClientTLS()); err != nil || after != own.Current().Leaf.SerialNumber.String() || after == before {
			t.Errorf("%s shows %s after the renewal (%v)", what, after, err)
		}
	}
	put(t, la, draft("x", 2))
	// The stores, too, show the new ones when they connect anew.
	sb.Stop(testDone(t))
	sb, _ = start(t, cb)
	ready(t, sb)
	put(t, la, draft("x", 3))
	if sa.PID() != pids[0] || sa.Restarts() != 0 {
		t.Errorf("a was restarted: %d, then %d", pids[0], sa.PID())
	}
}

func turnedAway(t *testing.T, urls map[string]string, id *identity.Store) {
	t.Helper()
	foreign := nodeIdentity(t, "a", nil)
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := id.IssueUser(key.Public(), "root", "admin", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	files, err := identity.WriteUser(t.TempDir(), key, chain)
	if err != nil {
		t.Fatal(err)
	}
	user, err := files.Load()
	if err != nil {
		t.Fatal(err)
	}
	join, err := identity.JoinTLS(identity.NewToken(id.CA().Fingerprint()), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trusting := func(c *tls.Config) *tls.Config { c.InsecureSkipVerify, c.VerifyConnection = true, nil; return c }
	for what, url := range urls {
		for who, conf := range map[string]*tls.Config{
			"nobody, in plain": nil, "nobody": trusting(&tls.Config{}), "a node of a foreign authority": trusting(foreign.ClientTLS()),
			"an admin": trusting(user), "a token": trusting(join),
		} {
			if answer, _, err := askOver(url, conf); err == nil && !strings.Contains(answer, "400") {
				t.Errorf("%s answers %s: %s", what, who, answer)
			}
		}
		if answer, _, err := askOver(url, id.ClientTLS()); err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200") {
			t.Errorf("%s does not answer a node: %s %v", what, answer, err)
		}
	}
	// etcd's own client, with a certificate that is good for the API only.
	cc := etcdlog.ClientConfig(urls["client a"])
	cc.TLS = user
	client, err := clientv3.New(cc)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := client.Put(ctx, "x", "y"); err == nil {
		t.Error("a user wrote to the store")
	}
}

func TestURLsFitTheirTLS(t *testing.T) {
	c := solo("a", t.TempDir(), freeURL(), freeURL())
	good := &TLS{Cert: "c", Key: "k", CA: "a", Host: "h"}
	if err := good.check(c.PeerURL); err == nil || !strings.Contains(err.Error(), "https://") {
		t.Errorf("http with TLS: %v", err)
	}
	if err := (*TLS)(nil).check("https://192.0.2.1:1"); err == nil {
		t.Error("https without TLS passes")
	}
	for _, bad := range []*TLS{{}, {Cert: "c", Key: "k", CA: "a"}} {
		if bad.check() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
	if err := good.check("https://192.0.2.1:1", "https://127.0.0.1:2"); err != nil {
		t.Error(err)
	}
}
