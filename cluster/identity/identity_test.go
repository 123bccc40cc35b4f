package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	stdpem "encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var here = netip.MustParseAddr("192.0.2.1")

func create(t *testing.T, cluster string, now func() time.Time) *Store {
	t.Helper()
	s, err := Create(cluster, Options{Dir: DirIn(t.TempDir()), Node: "node-a", Address: here, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

// shake does a handshake over a pipe, and one byte each way so that a refusal of
// the client's certificate arrives.
func shake(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, atServer, atClient error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		c := tls.Server(a, server)
		err := c.Handshake()
		if err == nil {
			_, err = c.Write([]byte{1})
		}
		seen = c.ConnectionState()
		_ = a.Close() // the client's read ends
		done <- err
	}()
	c := tls.Client(b, client)
	atClient = c.Handshake()
	if atClient == nil {
		_, atClient = c.Read(make([]byte, 1))
	}
	_ = b.Close() // the server's handshake ends
	atServer = <-done
	return seen, atServer, atClient
}

func TestNodesOfAClusterKnowEachOther(t *testing.T) {
	a := create(t, "c1", nil)
	key, err := PendingKey(DirIn(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := a.Grant(key.Public(), "node-b", netip.MustParseAddr("192.0.2.2"))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: DirIn(t.TempDir()), Node: "node-b", Address: netip.MustParseAddr("192.0.2.2")}
	b, err := Join(o, key, g)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]*Store{{a, b}, {b, a}} {
		seen, serr, cerr := shake(t, pair[0].ServerTLS(nil), pair[1].ClientTLS())
		if serr != nil || cerr != nil {
			t.Errorf("server %v, client %v", serr, cerr)
		}
		if p, err := pair[0].PeerOf(seen); err != nil || p.Name != pair[1].o.Node || p.Kind != Node || p.Cluster != "c1" {
			t.Errorf("%+v, %v", p, err)
		}
		if seen.Version != tls.VersionTLS13 {
			t.Errorf("version %x", seen.Version)
		}
	}
	// Either can admit and renew alone: it holds the authority's key.
	if err := b.Renew("test"); err != nil {
		t.Error(err)
	}
	again, err := Open(o)
	if err != nil || again.Current().Leaf.SerialNumber.Cmp(b.Current().Leaf.SerialNumber) != 0 {
		t.Errorf("after a restart: %v", err)
	}
	if !bytes.Equal(again.GossipKeys()[0], a.GossipKeys()[0]) {
		t.Error("the nodes have different gossip keys")
	}
}

func userConf(t *testing.T, s *Store, role string, ttl time.Duration) *tls.Config {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := s.IssueUser(key.Public(), "alice", role, ttl)
	if err != nil {
		t.Fatal(err)
	}
	f, err := WriteUser(t.TempDir(), key, chain)
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhoIsNotLetIn(t *testing.T) {
	now := time.Now()
	s := create(t, "c1", at(now))
	token := NewToken(s.CA().Fingerprint())
	server := s.ServerTLS(func(f string) bool { return f == token.Fingerprint })

	// sign lets another Store sign with this one's authority at another time.
	signed := func(when time.Time, cluster string) *tls.Config {
		ca := *s.ca
		if cluster != "" {
			u := *ca.Cert.URIs[0]
			u.Host = cluster
			c := *ca.Cert
			c.URIs = append(c.URIs[:0:0], &u)
			ca.Cert = &c
		}
		other := &Store{o: Options{Now: at(when)}, ca: &ca}
		conf := userConf(t, other, "admin", time.Hour)
		conf.VerifyConnection = nil // it is the server that must refuse
		return conf
	}
	plain := func(c *tls.Config) *tls.Config { c.InsecureSkipVerify = true; return c }
	open := func(c *tls.Config) *tls.Config { c.VerifyConnection = nil; return c }
	joinConf := func(k Token) *tls.Config {
		c, err := JoinTLS(k, now)
		if err != nil {
			t.Fatal(err)
		}
		return open(c)
	}
	tls12 := s.ClientTLS()
	tls12.MinVersion, tls12.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, conf := range map[string]*tls.Config{
		"no certificate":             plain(&tls.Config{}),
		"a foreign authority":        open(create(t, "c1", at(now)).ClientTLS()),
		"another cluster":            open(create(t, "c2", at(now)).ClientTLS()),
		"another cluster, our key":   signed(now, "c2"),
		"expired":                    signed(now.Add(-2*time.Hour), ""),
		"not yet valid":              signed(now.Add(2*Skew), ""),
		"another token":              joinConf(NewToken(s.CA().Fingerprint())),
		"TLS 1.2":                    tls12,
		"the authority itself":       plain(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{s.ca.Cert.Raw}, PrivateKey: s.ca.key}}}),
		"a certificate, another key": plain(&tls.Config{Certificates: []tls.Certificate{{Certificate: s.Current().Certificate, PrivateKey: must(NewKey())}}}),
	} {
		if _, serr, cerr := shake(t, server, conf); serr == nil || cerr == nil {
			t.Errorf("%s: server %v, client %v", name, serr, cerr)
		}
	}
	for name, conf := range map[string]*tls.Config{
		"a node": s.ClientTLS(), "a user": userConf(t, s, "viewer", time.Hour), "the token": joinConf(token),
		"a user of an hour ago": signed(now.Add(-59*time.Minute), ""),
		"a clock that is ahead": signed(now.Add(Skew-time.Minute), ""),
	} {
		if _, serr, cerr := shake(t, server, conf); serr != nil || cerr != nil {
			t.Errorf("%s: server %v, client %v", name, serr, cerr)
		}
	}
	if _, serr, _ := shake(t, s.ServerTLS(nil), joinConf(token)); serr == nil {
		t.Error("a token is let in where none is asked for")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// serverWith is a server that shows a certificate of one's choice.
func serverWith(c *tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*c}, MinVersion: tls.VersionTLS13}
}

func TestWhichServersAreTrusted(t *testing.T) {
	now := time.Now()
	s := create(t, "c1", at(now))
	foreign := create(t, "c1", at(now))
	late := &Store{o: Options{Now: at(now.Add(NodeLifetime + time.Minute))}, ca: s.ca, own: s.Current()}
	key := must(NewKey())
	_, leaf, err := s.IssueUser(key.Public(), "mallory", "admin", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	user := &tls.Certificate{Certificate: [][]byte{leaf.Raw, s.ca.Cert.Raw}, PrivateKey: key}
	// A foreign node that sends our authority's certificate along.
	mixed := &tls.Certificate{Certificate: [][]byte{foreign.Current().Certificate[0], s.ca.Cert.Raw}, PrivateKey: foreign.Current().PrivateKey}
	token := NewToken(s.CA().Fingerprint())
	join := must(JoinTLS(token, now))
	for name, x := range map[string]struct {
		cert *tls.Certificate
		conf *tls.Config
	}{
		"a foreign node": {foreign.Current(), s.ClientTLS()}, "a user": {user, s.ClientTLS()}, "an expired node": {s.Current(), late.ClientTLS()},
		"a foreign node, by token": {foreign.Current(), join}, "our authority, a foreign node": {mixed, join}, "a user, by token": {user, join},
	} {
		_, _, cerr := shake(t, serverWith(x.cert), x.conf)
		if v, ok := cerr.(*VerifyError); !ok || !v.Untrusted() {
			t.Errorf("%s: %v", name, cerr)
		}
	}
	if _, _, cerr := shake(t, serverWith(s.Current()), join); cerr != nil {
		t.Errorf("the cluster of the token: %v", cerr)
	}
}

func TestTheTokenIsOneWordAndStaysSecret(t *testing.T) {
	k := NewToken(strings.Repeat("ab", 32))
	back, err := ParseToken(" " + k.Reveal() + "\n")
	if err != nil || back.Reveal() != k.Reveal() || back.Fingerprint != k.Fingerprint || len(strings.Fields(k.Reveal())) != 1 {
		t.Errorf("%v", err)
	}
	secret := strings.Split(k.Reveal(), ".")[2]
	j := must(json.Marshal(k))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", k, "secret", k.key)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s %q", k, k, k, k, k.key), string(j), log.String(), fmt.Sprintf("%x", k.key)} {
		if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", k.key.Reveal())) || strings.Contains(text, fmt.Sprint(k.key.Reveal())) {
			t.Errorf("the secret is in %q", text)
		}
	}
	for _, bad := range []string{"", "dyad1", "dyad2." + k.Reveal()[6:], k.Reveal()[:len(k.Reveal())-1], strings.Replace(k.Reveal(), k.ID, "000000000000", 1)} {
		if _, err := ParseToken(bad); err == nil || bad != "" && len(bad) > 20 && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A node's certificate is renewed at two thirds of its time, again and again,
// and whoever connects sees the new one.
func TestCertificatesRenewByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made int
		o := Options{Dir: DirIn(t.TempDir()), Node: "node-a", Address: here, Issued: func(*x509.Certificate, string) { made++ }}
		s := must(Create("c1", o))
		made = 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { s.Keep(ctx); close(done) }()
		server := s.ServerTLS(nil)
		for range 400 {
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			own := s.Current().Leaf
			if left := time.Until(own.NotAfter); left < NodeLifetime/3-time.Hour {
				t.Fatalf("%s are left", left)
			}
			shows, err := server.GetCertificate(nil)
			if err != nil || shows.Leaf != own {
				t.Fatal("the listener shows another certificate")
			}
			if Expiring(own.NotBefore, own.NotAfter, time.Now()) {
				t.Fatal("it was about to expire")
			}
		}
		if made < 6 || made > 7 {
			t.Errorf("%d renewals in 400 days", made)
		}
		cancel()
		<-done
		o.Now = time.Now
		if again, err := Open(o); err != nil || again.Current().Leaf.SerialNumber.Cmp(s.Current().Leaf.SerialNumber) != 0 {
			t.Errorf("the file is not the newest: %v", err)
		}
	})
}

// A renewal that fails is tried again, and asking for one resets the keeper.
func TestARenewalThatFailsIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := create(t, "c1", nil)
		first := s.Current().Leaf
		good := s.o.Dir
		s.o.Dir = Dir("/proc/nowhere")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { s.Keep(ctx); close(done) }()
		time.Sleep(NodeLifetime*2/3 + 24*time.Hour)
		synctest.Wait()
		if s.Current().Leaf != first {
			t.Fatal("it was renewed on a disk that can't be written")
		}
		cancel()
		<-done
		s.o.Dir = good
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		go s.Keep(ctx)
		synctest.Wait()
		if s.Current().Leaf == first {
			t.Error("it was not renewed")
		}
	})
}

func TestWhatIsOnDiskIsRepairedOrRefused(t *testing.T) {
	reopen := func(t *testing.T, spoil func(o *Options)) (*Store, *Store, error) {
		s := create(t, "c1", nil)
		o := s.o
		spoil(&o)
		again, err := Open(o)
		return s, again, err
	}
	for name, spoil := range map[string]func(*Options){
		"a crash between key and certificate": func(o *Options) {
			b := must(EncodeKey(must(NewKey())))
			if err := o.Dir.write(file{nodeKeyFile, b}); err != nil {
				panic(err)
			}
		},
		"no certificate":  func(o *Options) { _ = os.Remove(o.Dir.NodeCert()) },
		"another address": func(o *Options) { o.Address = netip.MustParseAddr("2001:db8::9") },
		"expired":         func(o *Options) { o.Now = at(time.Now().Add(NodeLifetime + time.Hour)) },
	} {
		was, now, err := reopen(t, spoil)
		if err != nil || now.Current().Leaf.SerialNumber.Cmp(was.Current().Leaf.SerialNumber) == 0 || now.fits(now.Current().Leaf) != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, gone := range []string{caKeyFile, caCertFile, gossipFile} {
		if _, _, err := reopen(t, func(o *Options) { _ = os.Remove(o.Dir.path(gone)) }); err == nil || !strings.Contains(err.Error(), gone) {
			t.Errorf("without %s: %v", gone, err)
		}
		if _, _, err := reopen(t, func(o *Options) { _ = os.WriteFile(o.Dir.path(gone), []byte("x"), 0o600) }); err == nil || !strings.Contains(err.Error(), gone) {
			t.Errorf("a broken %s: %v", gone, err)
		}
	}
}

func TestRequestsAreChecked(t *testing.T) {
	key := must(NewKey())
	pem := must(Request(key))
	if _, f, err := ReadRequest(pem); err != nil || len(f) != 64 {
		t.Error(f, err)
	}
	block, _ := stdpem.Decode(pem)
	block.Bytes[len(block.Bytes)/2] ^= 1
	bad := stdpem.EncodeToMemory(block)
	for _, b := range [][]byte{nil, bad, must(EncodeKey(key))} {
		if _, _, err := ReadRequest(b); err == nil {
			t.Errorf("%.40q passes as a request", b)
		}
	}
	s := create(t, "c1", nil)
	for _, x := range []struct {
		name, role string
		ttl        time.Duration
	}{{"a/b", "viewer", time.Hour}, {"", "viewer", time.Hour}, {"a", "", time.Hour}, {"a", "x?y", time.Hour}, {"a", "viewer", time.Minute}, {"a", "viewer", MaxUserLifetime + 1}} {
		if _, _, err := s.IssueUser(key.Public(), x.name, x.role, x.ttl); err == nil {
			t.Errorf("%+v was signed", x)
		}
	}
}

func TestTheGossipRing(t *testing.T) {
	s := create(t, "c1", nil)
	old, next := s.GossipKeys()[0], NewGossipKey()
	for _, ring := range [][][]byte{nil, {next}, {old, next[:5]}, {old, next, next, next, next}} {
		if s.SetGossipKeys(ring) == nil {
			t.Errorf("%d keys were taken", len(ring))
		}
	}
	for _, ring := range [][][]byte{{old, next}, {next, old}, {next}} {
		if err := s.SetGossipKeys(ring); err != nil {
			t.Error(err)
		}
	}
	again := must(Open(s.o))
	if len(again.GossipKeys()) != 1 || !bytes.Equal(again.GossipKeys()[0], next) {
		t.Error("the file has another ring")
	}
}
