package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ServeTCP serves h to who has the cluster key, until ctx ends, and waits like
// [ServeUnix]. A caller sends "Authorization: Bearer KEY" and its node's name in
// [HeaderNode]; the actor is that name with Auth key. Whoever lacks one of them
// is denied. It owns ln. An empty key is an error: it would let everybody in.
func ServeTCP(ctx context.Context, ln net.Listener, key string, h http.Handler, log *slog.Logger) error {
	if key == "" {
		return errors.Join(&Error{
			Class: ClassUsage, Code: "key-missing", What: "the API on " + ln.Addr().String(), Why: "there is no cluster key, and without one it would be open to everybody",
			Fix: "dyad init, or dyad join",
		}, ln.Close())
	}
	want := sha256.Sum256([]byte(key))
	return front{
		name:     "tcp",
		identify: func(r *http.Request) (Caller, error) { return identifyKey(r, want) },
	}.run(ctx, ln, h, log)
}

func identifyKey(r *http.Request, want [sha256.Size]byte) (Caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(token)) // equal lengths: the time says nothing about the key's
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return Caller{}, denied("key-wrong", "it does not carry the cluster key", "compare the key files of both nodes; dyad join fetches the right one")
	}
	var c Caller
	if c.Actor.Name = r.Header.Get(HeaderNode); !validNode(c.Actor.Name) {
		return Caller{}, denied("node-missing", "it does not say which node it comes from", "send the header "+HeaderNode)
	}
	c.Actor.Auth = AuthKey
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Address = ap.Addr().Unmap()
	}
	return c, nil
}
