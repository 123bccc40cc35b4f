package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"dyad/cluster/quorum"
)

// https asks a witness server. Every question has a connection of its own: one
// that was kept open between two takeovers would be the one that a firewall
// forgot.
type https struct {
	t      Target
	o      Options
	client *http.Client
}

func openHTTPS(t Target, o Options) (Witness, error) {
	if o.Certificate == nil {
		return nil, fmt.Errorf("the witness %s wants a certificate, and this node has none\n  try: file:///DIRECTORY/ or etcd://…, or init the cluster with a release that gives nodes certificates", t.URL())
	}
	conf := &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return o.Certificate()
		},
	}
	if t.Fingerprint != "" {
		// The fingerprint decides alone: it names one certificate, whoever signed it.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = pinned(t.Fingerprint)
	}
	tr := &http.Transport{
		TLSClientConfig: conf, DisableKeepAlives: true, DisableCompression: true,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1
		MaxResponseHeaderBytes: MaxMessage,
		DialContext:            (&net.Dialer{Timeout: o.Timeout}).DialContext,
	}
	client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return &https{t: t, o: o, client: client}, nil
}

// wrongServer is what a pin refuses.
type wrongServer struct{ shown, wanted string }

func (e *wrongServer) Error() string {
	return fmt.Sprintf("the server shows the certificate %s, and %s is pinned", e.shown, e.wanted)
}

func pinned(fingerprint string) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("the server shows no certificate")
		}
		shown := Fingerprint(cs.PeerCertificates[0].Raw)
		if subtle.ConstantTimeCompare([]byte(shown), []byte(fingerprint)) != 1 {
			return &wrongServer{shown, fingerprint}
		}
		return nil
	}
}

// Fingerprint is the SHA-256 of a certificate in DER, in hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Get implements quorum.Register.
func (h *https) Get(ctx context.Context) (quorum.Claim, error) {
	c, _, err := h.ask(ctx, http.MethodGet, PathClaim, nil)
	return c, err
}

// Create implements quorum.Register.
func (h *https) Create(ctx context.Context, first quorum.Claim) (quorum.Claim, error) {
	if err := errors.Join(first.Check(), ours(h.o.Cluster, first)); err != nil {
		return quorum.Claim{}, err
	}
	c, _, err := h.ask(ctx, http.MethodPut, PathClaim, &Request{To: &first})
	return c, err
}

// Swap implements quorum.Register.
func (h *https) Swap(ctx context.Context, from, to quorum.Claim) (quorum.Claim, error) {
	if err := errors.Join(quorum.CheckSwap(from, to), ours(h.o.Cluster, to)); err != nil {
		return quorum.Claim{}, err
	}
	c, _, err := h.ask(ctx, http.MethodPost, PathSwap, &Request{From: &from, To: &to})
	if err == nil && !c.Same(to) {
		// A yes that names another claim is no yes.
		return c, fmt.Errorf("%w: it said yes, and that %s stands", quorum.ErrUnavailable, c)
	}
	return c, err
}

// Check implements Witness.
func (h *https) Check(ctx context.Context) Report {
	start := time.Now()
	c, release, err := h.ask(ctx, http.MethodGet, PathClaim, nil)
	return Report{Kind: KindHTTPS, Release: release, Latency: time.Since(start), Claim: c, Err: err}
}

// Close implements Witness.
func (h *https) Close() error {
	h.client.CloseIdleConnections()
	return nil
}

func (h *https) ask(ctx context.Context, method, path string, q *Request) (quorum.Claim, string, error) {
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeout)
	defer cancel()
	var body io.Reader
	if q != nil {
		b, err := json.Marshal(q)
		if err != nil {
			return quorum.Claim{}, "", fmt.Errorf("%w: %w", quorum.ErrBadClaim, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+h.t.Hosts[0]+path, body)
	if err != nil {
		return quorum.Claim{}, "", fmt.Errorf("%w: %w", quorum.ErrUnavailable, err)
	}
	req.Header.Set("User-Agent", "dyad/"+h.o.Release)
	if h.o.Token != "" && method == http.MethodPut {
		req.Header.Set("Authorization", "Bearer "+h.o.Token)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return quorum.Claim{}, "", h.failed(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxMessage+1))
	var a Answer
	if err == nil {
		err = decodeOne(b, &a)
	}
	if err != nil {
		return quorum.Claim{}, "", fmt.Errorf("%w: %s answers %s, which is no witness's answer: %w", quorum.ErrUnavailable, h.t.Hosts[0], resp.Status, err)
	}
	c, err := h.read(resp.StatusCode, a)
	return c, a.Release, err
}

// read turns an answer into what a register returns.
func (h *https) read(status int, a Answer) (quorum.Claim, error) {
	var c quorum.Claim
	if a.Claim != nil {
		c = *a.Claim
	}
	if status == http.StatusOK && a.Code == "" {
		if err := errors.Join(c.Check(), ours(h.o.Cluster, c)); err != nil {
			return c, fmt.Errorf("%w: its answer makes no sense: %w", quorum.ErrUnavailable, err)
		}
		return c, nil
	}
	kind, ok := codeErrors[a.Code]
	if !ok {
		kind = quorum.ErrUnavailable
	}
	return c, fmt.Errorf("%w: %s", kind, a.Why)
}

// failed words an error of a connection.
func (h *https) failed(err error) error {
	var wrong *wrongServer
	var unknown *tls.CertificateVerificationError
	var op *net.OpError
	host := h.t.Hosts[0]
	switch {
	case errors.As(err, &wrong):
		return fmt.Errorf("%w: %s: %w\n  try: compare with what dyad witness serve prints; after a change of its certificate, dyad witness remove and add",
			quorum.ErrDenied, host, wrong)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: %s: %w\n  try: put the server's fingerprint into the URL: https://%s#FINGERPRINT", quorum.ErrDenied, host, unknown.Err, host)
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("%w: %s does not take this node's certificate: %w\n  try: the witness's log says why", quorum.ErrDenied, host, op.Err)
	}
	return fmt.Errorf("%w: %s: %w", quorum.ErrUnavailable, host, err)
}
