package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dyad/cluster/quorum"
	"dyad/cluster/witness"
	"dyad/cluster/witness/registertest"
)

// running is a witness in this process.
type running struct {
	url   string
	addr  string
	store *Store
	stop  func()
}

// ample is for tests that ask faster than a cluster may.
var ample = Options{Rate: 1_000_000, Burst: 1_000_000, Release: "9.9", Log: slog.New(slog.DiscardHandler)}

func start(t testing.TB, dir string, o Options) *running {
	t.Helper()
	store := open(t, dir, 0)
	cert, err := Certificate(dir, "", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.Certificate = cert
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := Serve(ctx, ln, store, o); err != nil {
			t.Error(err)
		}
	})
	r := &running{addr: ln.Addr().String(), store: store}
	r.url = "https://" + r.addr + "#" + witness.Fingerprint(cert.Certificate[0])
	r.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); closed(t, store) })
	t.Cleanup(r.stop)
	return r
}

func client(t testing.TB, url, id string, cert *tls.Certificate, token string) witness.Witness {
	t.Helper()
	w, err := witness.Open(url, witness.Options{
		Cluster: id, Token: token, Timeout: witness.MaxTimeout, Release: "test",
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestServerIsARegister(t *testing.T) {
	r := start(t, t.TempDir(), ample)
	ca := registertest.NewCA(t)
	registertest.Run(t, func(t testing.TB, id string) quorum.Register {
		return client(t, r.url, id, ca.Node(id, "node-a"), "")
	})
}

func TestCheckTellsReleaseAndLatency(t *testing.T) {
	r := start(t, t.TempDir(), ample)
	w := client(t, r.url, "c", registertest.NewCA(t).Node("c", "node-a"), "")
	if rep := w.Check(t.Context()); !errors.Is(rep.Err, quorum.ErrUnknown) || rep.Release != "9.9" || rep.Latency <= 0 {
		t.Errorf("%+v", rep)
	}
	if _, err := w.Create(t.Context(), registertest.Pair("c", 1)); err != nil {
		t.Fatal(err)
	}
	if rep := w.Check(t.Context()); rep.Err != nil || rep.Claim != registertest.Pair("c", 1) || rep.Kind != witness.KindHTTPS {
		t.Errorf("%+v", rep)
	}
}

// Whoever is not a node of the cluster that made the record is told no, and why.
func TestWhoMayAsk(t *testing.T) {
	r := start(t, t.TempDir(), ample)
	ca, foreign := registertest.NewCA(t), registertest.NewCA(t)
	pair, sole := registertest.Pair("c", 1), registertest.Sole("c", 2, "node-a")
	if _, err := client(t, r.url, "c", ca.Node("c", "node-a"), "").Create(t.Context(), pair); err != nil {
		t.Fatal(err)
	}
	stolen := foreign.Node("c", "node-a")
	stolen.Certificate[1] = ca.Cert().Raw
	alone := ca.Node("c", "node-a")
	alone.Certificate = alone.Certificate[:1]
	noCA := ca.Node("c", "node-a")
	noCA.Certificate[1] = noCA.Certificate[0]
	for name, tc := range map[string]struct {
		cert *tls.Certificate
		why  string
	}{
		"another CA":         {foreign.Node("c", "node-a"), "another CA"},
		"another's CA shown": {stolen, "certificate"},
		"another cluster":    {ca.Node("d", "node-a"), "cluster d"},
		"expired":            {ca.Issue(registertest.Leaf{URI: "dyad://c/node/node-a", NotAfter: time.Now().Add(-time.Minute)}), "expired"},
		"a server's":         {ca.Issue(registertest.Leaf{URI: "dyad://c/node/node-a", Usage: x509.ExtKeyUsageServerAuth}), "usage"},
		"no name":            {ca.Issue(registertest.Leaf{URI: "https://c/node/node-a"}), "names no"},
		"a user":             {ca.Issue(registertest.Leaf{URI: "dyad://c/user/alice"}), "only a node"},
		"without its CA":     {alone, "chain"},
		"no CA at the end":   {noCA, "no CA"},
	} {
		_, err := client(t, r.url, "c", tc.cert, "").Swap(t.Context(), pair, sole)
		if !errors.Is(err, quorum.ErrDenied) || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: %v, want %q", name, err, tc.why)
		}
	}
	// Without any certificate the handshake fails.
	_, err := client(t, r.url, "c", &tls.Certificate{}, "").Swap(t.Context(), pair, sole)
	if err == nil || errors.Is(err, quorum.ErrMoved) {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := client(t, r.url, "c", ca.Issue(registertest.Leaf{URI: "dyad://c/user/alice"}), "").Get(t.Context()); err != nil {
		t.Errorf("a user of the cluster may look: %v", err)
	}
	if got, err := r.store.Get("c", foreignKey(t, ca)); err != nil || got.Claim != pair {
		t.Errorf("after all of that: %+v, %v", got, err)
	}
}

func foreignKey(t *testing.T, ca *registertest.CA) string {
	t.Helper()
	id, err := identify([]*x509.Certificate{ca.Node("c", "n").Leaf, ca.Cert()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return id.CA
}

func TestTheServerIsPinned(t *testing.T) {
	r := start(t, t.TempDir(), ample)
	ca := registertest.NewCA(t)
	host, _, _ := strings.Cut(r.url, "#")
	for name, url := range map[string]string{
		"another fingerprint": host + "#" + strings.Repeat("ab", 32),
		"the system's roots":  host,
	} {
		_, err := client(t, url, "c", ca.Node("c", "node-a"), "").Create(t.Context(), registertest.Pair("c", 1))
		if !errors.Is(err, quorum.ErrDenied) || !strings.Contains(err.Error(), "try:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRegistration(t *testing.T) {
	ca := registertest.NewCA(t)
	for _, tc := range []struct {
		allow AllowNew
		token string
		want  error
	}{
		{AllowOpen, "", nil},
		{AllowClosed, "secret", quorum.ErrDenied},
		{AllowToken, "secret", nil},
		{AllowToken, "wrong", quorum.ErrDenied},
		{AllowToken, "", quorum.ErrDenied},
	} {
		o := ample
		o.AllowNew, o.Token = tc.allow, "secret"
		r := start(t, t.TempDir(), o)
		_, err := client(t, r.url, "c", ca.Node("c", "node-a"), tc.token).Create(t.Context(), registertest.Pair("c", 1))
		if !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v", tc, err)
		}
		r.stop()
	}
	if err := Serve(t.Context(), &net.TCPListener{}, nil, Options{AllowNew: AllowToken}); err == nil {
		t.Error("a witness with an empty token")
	}
}

func TestTooManyQuestions(t *testing.T) {
	o := ample
	o.Rate, o.Burst = 1, 3
	clock := time.Now()
	o.Now = func() time.Time { return clock }
	r := start(t, t.TempDir(), o)
	ca := registertest.NewCA(t)
	w := client(t, r.url, "c", ca.Node("c", "node-a"), "")
	if _, err := w.Create(t.Context(), registertest.Pair("c", 1)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.Get(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Get(t.Context()); !errors.Is(err, quorum.ErrUnavailable) || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
	// Another cluster does not notice.
	if _, err := client(t, r.url, "d", ca.Node("d", "node-a"), "").Create(t.Context(), registertest.Pair("d", 1)); err != nil {
		t.Error(err)
	}
}

// A wiped witness knows nothing, and so grants nothing.
func TestWiped(t *testing.T) {
	ca := registertest.NewCA(t)
	r := start(t, t.TempDir(), ample)
	pair := registertest.Pair("c", 1)
	if _, err := client(t, r.url, "c", ca.Node("c", "node-a"), "").Create(t.Context(), pair); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r = start(t, t.TempDir(), ample)
	w := client(t, r.url, "c", ca.Node("c", "node-a"), "")
	if _, err := w.Swap(t.Context(), pair, registertest.Sole("c", 2, "node-a")); !errors.Is(err, quorum.ErrUnknown) {
		t.Errorf("%v", err)
	}
}

// A witness that goes away and comes back, again and again: every swap that was
// told yes stands, and a repetition finds out about the others.
func TestFlapping(t *testing.T) {
	ca, dir := registertest.NewCA(t), t.TempDir()
	stands := registertest.Pair("c", 1)
	for i := range 5 {
		r := start(t, dir, ample)
		w := client(t, r.url, "c", ca.Node("c", "node-a"), "")
		got, err := w.Create(t.Context(), stands)
		if err != nil || got != stands {
			t.Fatalf("round %d: %v, %v; want %v", i, got, err, stands)
		}
		next := registertest.Sole("c", stands.Epoch+1, "node-a")
		if stands, err = w.Swap(t.Context(), stands, next); err != nil {
			t.Fatal(err)
		}
		r.stop()
		if _, err := w.Swap(t.Context(), stands, registertest.Pair("c", stands.Epoch+1)); !errors.Is(err, quorum.ErrUnavailable) {
			t.Errorf("while it is down: %v", err)
		}
	}
}

// A witness that accepts and says nothing costs a question its time and no more.
func TestSlow(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w, err := witness.Open("https://"+ln.Addr().String(), witness.Options{
		Cluster: "c", Timeout: 100 * time.Millisecond,
		Certificate: func() (*tls.Certificate, error) { return &tls.Certificate{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = w.Swap(t.Context(), registertest.Pair("c", 1), registertest.Sole("c", 2, "node-a"))
	if took := time.Since(start); !errors.Is(err, quorum.ErrUnavailable) || took > 5*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}

// raw sends bytes as a node and returns what comes back.
func raw(t *testing.T, addr string, cert *tls.Certificate, text string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(c) // a reset ends it as well as an end
	return string(b)
}

func TestWhatIsNoRequest(t *testing.T) {
	r := start(t, t.TempDir(), ample)
	cert := registertest.NewCA(t).Node("c", "node-a")
	big := strings.Repeat(" ", witness.MaxMessage+1)
	for name, tc := range map[string]struct{ text, want string }{
		"no route":     {"GET / HTTP/1.1\r\nHost: w\r\n\r\n", " 400 "},
		"delete":       {"DELETE " + witness.PathClaim + " HTTP/1.1\r\nHost: w\r\n\r\n", " 400 "},
		"not JSON":     {body("PUT", witness.PathClaim, "hello"), " 400 "},
		"two objects":  {body("PUT", witness.PathClaim, "{}{}"), " 400 "},
		"nothing":      {body("POST", witness.PathSwap, "{}"), " 400 "},
		"too large":    {body("PUT", witness.PathClaim, big), " 400 "},
		"large header": {"GET " + witness.PathClaim + " HTTP/1.1\r\nHost: w\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\n", " 431 "},
		"unknown":      {"GET " + witness.PathClaim + " HTTP/1.1\r\nHost: w\r\n\r\n", " 404 "},
	} {
		got := raw(t, r.addr, cert, tc.text)
		first, _, _ := strings.Cut(got, "\r\n")
		if !strings.Contains(first+" ", tc.want) {
			t.Errorf("%s: %q, want %q", name, first, tc.want)
		}
	}
	conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}}
	if c, err := tls.Dial("tcp", r.addr, conf); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 is spoken")
	}
}

func body(method, path, text string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: w\r\nContent-Length: %d\r\n\r\n%s", method, path, len(text), text)
}

// One address can't take all connections: what is too many is closed at once.
func TestConnectionsOfOneAddress(t *testing.T) {
	o := ample
	o.MaxPerAddr = 3
	r := start(t, t.TempDir(), o)
	var idle []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	extra, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	if err := extra.SetReadDeadline(time.Now().Add(headerBound / 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := extra.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("the fourth connection: %v", err)
	}
	for _, c := range idle {
		_ = c.Close()
	}
	w := client(t, r.url, "c", registertest.NewCA(t).Node("c", "node-a"), "")
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := w.Create(t.Context(), registertest.Pair("c", 1))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after they are gone: %v", err)
		}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Neither the token nor a key is ever logged.
func TestTheLogHoldsNoSecret(t *testing.T) {
	var out bytes.Buffer
	var mu sync.Mutex
	o := ample
	o.AllowNew, o.Token = AllowToken, "open-sesame"
	o.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := start(t, t.TempDir(), o)
	ca := registertest.NewCA(t)
	for _, token := range []string{"wrong-horse", "open-sesame"} {
		_, _ = client(t, r.url, "c", ca.Node("c", "node-a"), token).Create(t.Context(), registertest.Pair("c", 1))
	}
	r.stop()
	text := out.String()
	for _, secret := range []string{"open-sesame", "wrong-horse", "PRIVATE"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is logged", secret)
		}
	}
	for _, want := range []string{"witness.granted", "witness.denied", "node-a"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not logged:\n%s", want, text)
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func FuzzDecodeRequest(f *testing.F) {
	for _, q := range []witness.Request{
		{},
		{To: &quorum.Claim{Cluster: "c", Epoch: 1, Mode: quorum.Pair}},
		{From: &quorum.Claim{Cluster: "c", Epoch: 1, Mode: quorum.Pair}, To: &quorum.Claim{Cluster: "c", Epoch: 2, Mode: quorum.Sole, Holder: "n"}},
	} {
		b, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, swap bool) {
		q, err := witness.DecodeRequest(bytes.NewReader(b), swap)
		if err != nil {
			if !errors.Is(err, quorum.ErrBadClaim) {
				t.Errorf("%v", err)
			}
			return
		}
		if q.To.Check() != nil || swap && quorum.CheckSwap(*q.From, *q.To) != nil {
			t.Errorf("%+v was taken", q)
		}
	})
}

func FuzzDecodeFrame(f *testing.F) {
	good, err := encodeFrame([]Record{{Claim: registertest.Pair("c", 1), CA: "ca", By: "n"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decodeFrame(b)
		if err != nil {
			return
		}
		for _, r := range records {
			if err := r.Claim.Check(); err != nil {
				t.Errorf("%+v: %v", r, err)
			}
		}
	})
}

func TestMain(m *testing.M) { mainOrChild(m, func() { goleak.VerifyTestMain(m) }) }
