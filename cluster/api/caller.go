package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// MaxBody bounds a request's body, in bytes. It is above
// eventlog.MaxBatchBytes: an apply that is too large is refused by the log, which
// can say why.
const MaxBody = 8 << 20

// bodyBound is how long the reading of one body may take.
const bodyBound = 15 * time.Second

// How callers are known; the Auth of an actor.
const (
	AuthUnix  = "unix"  // peer credentials of the unix socket
	AuthCert  = "cert"  // a certificate of the cluster's authority
	AuthToken = "token" // the key of a join token
)

// Scopes of a question.
const (
	ScopeNode    = "node"
	ScopeCluster = "cluster"
)

type (
	callerKey   struct{}
	stoppingKey struct{}
	stillKey    struct{}
)

// WithCaller says who asks. Fronts other than [ServeUnix] and [ServeTCP] use it.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf is the caller of a request; [checked] saw to it that there is one.
func callerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// stillMay asks again whether the caller of a request that goes on for long may
// ask: its certificate may end, or be revoked.
func stillMay(ctx context.Context) error {
	if ask, ok := ctx.Value(stillKey{}).(func() error); ok {
		return ask()
	}
	return nil
}

// stoppingOf is a context that ends when the server begins to stop.
func stoppingOf(ctx context.Context) context.Context {
	if s, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return s
	}
	return ctx
}

// checked lets a request through to the routes if there is such a route, if
// the caller is known and its role allows the route, and once its body is read.
func checked(mux *http.ServeMux, b Backend) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, route := mux.Handler(r)
		if route == "" {
			usage("route-unknown", r.Method+" "+r.URL.Path, "there is no such route", "see "+PathDocument).write(w)
			return
		}
		if r.URL.Path != PathDocument && callerOf(r.Context()).Actor.Name == "" {
			denied("caller-unknown", "nobody vouches for the caller", "ask over the unix socket, or with a certificate").write(w)
			return
		}
		if r.URL.Path != PathDocument {
			if err := authorize(r.Context(), b, routeNeeds(route)); err != nil {
				AsError(err).write(w)
				return
			}
		}
		if err := readBody(w, r); err != nil {
			AsError(err).write(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// readBody reads the whole body under a deadline and puts it back.
func readBody(w http.ResponseWriter, r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	rc := http.NewResponseController(w)
	// A recorder in a test has no deadlines; nothing to bound there.
	_ = rc.SetReadDeadline(time.Now().Add(bodyBound))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return usage("body-too-large", "the request", fmt.Sprintf("its body is larger than %d MiB", MaxBody>>20), "split it into several")
	case err != nil:
		return usage("body", "the request", "its body did not arrive: "+err.Error(), "repeat it with the same key")
	}
	_ = rc.SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// recovered turns a panic into an answer and a line in the log.
func recovered(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &tracked{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p) // the way to drop a connection; net/http knows it
			}
			log.ErrorContext(r.Context(), "request panicked", "event", "api.panic", "reason", fmt.Sprint(p),
				"method", r.Method, "path", r.URL.Path, "stack", string(debug.Stack()))
			if t.began {
				panic(http.ErrAbortHandler) // a half answer must not look like a whole one
			}
			(&Error{Class: ClassFailed, Code: "panic", What: "the request", Why: "a defect in dyad stopped it", Fix: fixFailed}).write(t)
		}()
		next.ServeHTTP(t, r)
	})
}

// tracked remembers whether an answer began.
type tracked struct {
	http.ResponseWriter
	began bool
}

func (t *tracked) WriteHeader(status int) {
	t.began = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(b []byte) (int, error) {
	t.began = true
	return t.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func denied(code, why, fix string) *Error {
	return &Error{Class: ClassDenied, Code: code, What: "the request", Why: why, Fix: fix}
}
