package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// Bounds of the server. A client that is slower is cut off.
const (
	headerBound  = 5 * time.Second // handshake and header
	requestBound = 5 * time.Second // the whole request
	answerBound  = 10 * time.Second
	stopBound    = 5 * time.Second
	maxHeader    = 4096 // bytes
	// DefaultMaxConns connections are open at once, DefaultMaxPerAddress of one
	// address; more wait, or are closed.
	DefaultMaxConns      = 512
	DefaultMaxPerAddress = 64
	// DefaultRate questions of one cluster are answered each second, with a burst.
	// Two nodes ask a few times a day, and when they are troubled, some times a
	// second.
	DefaultRate  = 20
	DefaultBurst = 100
)

// AllowNew says which clusters may register.
type AllowNew string

// The ways to register.
const (
	AllowOpen   AllowNew = "open"   // anybody, up to the number of clusters
	AllowToken  AllowNew = "token"  // who brings the token
	AllowClosed AllowNew = "closed" // nobody
)

// Options of [Serve].
type Options struct {
	Certificate tls.Certificate
	AllowNew    AllowNew // empty: AllowOpen
	// Token is what AllowToken wants; not empty then.
	Token string
	// Rate and Burst are for each cluster, and for all unknown ones together; 0:
	// the defaults.
	Rate, Burst int
	MaxConns    int // 0: DefaultMaxConns
	MaxPerAddr  int // 0: DefaultMaxPerAddress
	Release     string
	Log         *slog.Logger
	Now         func() time.Time
}

// Serve answers on ln, which it closes, until ctx ends or the disk fails. Errors:
// the options', the listener's, and that of a disk that refused a write.
func Serve(ctx context.Context, ln net.Listener, store *Store, o Options) error {
	if err := o.finish(); err != nil {
		_ = ln.Close()
		return err
	}
	h := &handler{store: store, o: o, limits: newLimits(o.Rate, o.Burst), token: sha256.Sum256([]byte(o.Token))}
	srv := &http.Server{
		Handler: h, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerBound, ReadTimeout: requestBound, WriteTimeout: answerBound,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1
		ErrorLog:     slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	srv.SetKeepAlivesEnabled(false)
	ended := make(chan error, 1)
	go func() {
		ended <- srv.Serve(tls.NewListener(limit(ln, o.MaxConns, o.MaxPerAddr), tlsConfig(o.Certificate)))
	}()
	o.Log.Info("the witness answers", "event", "witness.started", "reason", "asked to start",
		"address", ln.Addr().String(), "clusters", store.Len(), "new", string(o.AllowNew), "release", o.Release)
	var why error
	select {
	case err := <-ended:
		return err
	case <-store.Failed():
		why = errors.New("the disk refused a write\n  try: df and the kernel's log, then start the witness again")
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopBound)
	defer cancel()
	if err := srv.Shutdown(bounded); err != nil {
		_ = srv.Close()
	}
	<-ended
	return why
}

func (o *Options) finish() error {
	if o.AllowNew == "" {
		o.AllowNew = AllowOpen
	}
	for v, d := range map[*int]int{&o.Rate: DefaultRate, &o.Burst: DefaultBurst, &o.MaxConns: DefaultMaxConns, &o.MaxPerAddr: DefaultMaxPerAddress} {
		if *v <= 0 {
			*v = d
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.AllowNew != AllowOpen && o.AllowNew != AllowToken && o.AllowNew != AllowClosed:
		return fmt.Errorf("%q is not open, token or closed", o.AllowNew)
	case o.AllowNew == AllowToken && o.Token == "":
		return errors.New("there is no token to register with\n  try: --token-file FILE")
	}
	return nil
}

// tlsConfig wants a certificate of every client. It is looked at by [identify],
// after the handshake, so that a client is told in words what is wrong with it.
func tlsConfig(c tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
	}
}

// tokenGiven compares in constant time.
func (h *handler) tokenGiven(r *http.Request) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(given))
	return ok && subtle.ConstantTimeCompare(sum[:], h.token[:]) == 1
}
