package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"dyad/cluster/quorum"
	"dyad/cluster/witness"
)

type handler struct {
	store  *Store
	o      Options
	limits *limits
	token  [sha256.Size]byte
}

var statuses = map[string]int{
	"": http.StatusOK, witness.CodeUnknown: http.StatusNotFound, witness.CodeMoved: http.StatusConflict,
	witness.CodeBad: http.StatusBadRequest, witness.CodeDenied: http.StatusForbidden,
	witness.CodeBusy: http.StatusTooManyRequests, witness.CodeUnavailable: http.StatusServiceUnavailable,
}

// errBusy: too many questions.
var errBusy = errors.New("too many questions of this cluster; ask again in a second")

// ServeHTTP answers one question. What a client is told no for is decided in this
// order: who it is, how often it asks, what it may, and what it wants.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, err := h.who(r)
	var rec Record
	if err == nil {
		rec, err = h.answer(r, id)
	}
	a := witness.Answer{Release: h.o.Release}
	if rec.Claim.Cluster != "" {
		a.Claim = &rec.Claim
	}
	if err != nil {
		a.Code, a.Why = code(err), err.Error()
	}
	h.log(r, id, a)
	b, err := json.Marshal(a)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(statuses[a.Code])
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

func code(err error) string {
	switch {
	case errors.Is(err, errBusy):
		return witness.CodeBusy
	case errors.Is(err, ErrFull), errors.Is(err, ErrOtherCA):
		return witness.CodeDenied
	}
	return witness.CodeOf(err)
}

func denied(format string, args ...any) error {
	return fmt.Errorf("%w: %w", quorum.ErrDenied, fmt.Errorf(format, args...))
}

func (h *handler) who(r *http.Request) (identity, error) {
	if r.TLS == nil {
		return identity{}, denied("there is no TLS")
	}
	id, err := identify(r.TLS.PeerCertificates, h.o.Now())
	if err != nil {
		return id, denied("this client's certificate: %w", err)
	}
	// Clusters that are not held share one bucket, so that buckets are bounded.
	bucket := ""
	if _, err := h.store.Get(id.Cluster, id.CA); err == nil {
		bucket = id.Cluster
	}
	if !h.limits.take(bucket, h.o.Now()) {
		return id, errBusy
	}
	return id, nil
}

func (h *handler) answer(r *http.Request, id identity) (Record, error) {
	ctx, cancel := context.WithTimeout(r.Context(), answerBound/2)
	defer cancel()
	switch r.Method + " " + r.URL.Path {
	case "GET " + witness.PathClaim:
		return h.store.Get(id.Cluster, id.CA)
	case "PUT " + witness.PathClaim:
		q, err := h.change(r, id, false)
		if err != nil {
			return Record{}, err
		}
		if err := h.mayRegister(r, id); err != nil {
			return Record{}, err
		}
		return h.store.Create(ctx, id.CA, id.Name, *q.To, h.o.Now())
	case "POST " + witness.PathSwap:
		q, err := h.change(r, id, true)
		if err != nil {
			return Record{}, err
		}
		return h.store.Swap(ctx, id.CA, id.Name, *q.From, *q.To, h.o.Now())
	}
	return Record{}, fmt.Errorf("%w: there is no %s %s here", quorum.ErrBadClaim, r.Method, r.URL.Path)
}

// change reads a request of somebody who may make it.
func (h *handler) change(r *http.Request, id identity, swap bool) (witness.Request, error) {
	if id.Kind != kindNode {
		return witness.Request{}, denied("only a node may change a claim, and this is the %s %s", id.Kind, id.Name)
	}
	q, err := witness.DecodeRequest(r.Body, swap)
	if err != nil {
		return q, err
	}
	if q.To.Cluster != id.Cluster {
		return q, denied("the certificate is of cluster %s, the claim of %s", id.Cluster, q.To.Cluster)
	}
	return q, nil
}

// mayRegister tells whether a cluster may be new here. One that is held already
// is not new.
func (h *handler) mayRegister(r *http.Request, id identity) error {
	if _, err := h.store.Get(id.Cluster, id.CA); !errors.Is(err, quorum.ErrUnknown) {
		return nil
	}
	switch {
	case h.o.AllowNew == AllowClosed:
		return denied("this witness takes no new clusters")
	case h.o.AllowNew == AllowToken && !h.tokenGiven(r):
		return denied("this witness takes new clusters with its token only; dyad witness add URL --token-file FILE")
	}
	return nil
}

// log tells of changes and of those who were told no.
func (h *handler) log(r *http.Request, id identity, a witness.Answer) {
	attrs := []any{"reason", a.Why, "cluster", id.Cluster, "kind", id.Kind, "name", id.Name, "address", r.RemoteAddr}
	if a.Claim != nil {
		attrs = append(attrs, "claim", a.Claim.String())
	}
	switch {
	case a.Code == "" && r.Method == http.MethodGet:
		h.o.Log.Debug("asked", append([]any{"event", "witness.asked"}, attrs...)...)
	case a.Code == "":
		h.o.Log.Info("granted", append([]any{"event", "witness.granted"}, attrs...)...)
	case a.Code == witness.CodeBusy:
		h.o.Log.Debug("told no", append([]any{"event", "witness.busy"}, attrs...)...)
	default:
		h.o.Log.Warn("told no", append([]any{"event", "witness." + a.Code}, attrs...)...)
	}
}
