package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
)

// ServeTCP serves h over TLS until ctx ends, and waits like [ServeUnix]. conf must
// ask for and verify a certificate of every client; who says whose it is, with
// the caller's role, for each request anew. It owns ln. A configuration that
// lets in clients without a certificate is an error.
func ServeTCP(ctx context.Context, ln net.Listener, conf *tls.Config, who func(tls.ConnectionState) (Caller, error), h http.Handler, log *slog.Logger) error {
	if conf == nil || conf.ClientAuth < tls.RequireAnyClientCert || conf.ClientAuth != tls.RequireAndVerifyClientCert && conf.VerifyConnection == nil {
		return errors.Join(&Error{
			Class: ClassUsage, Code: "certificate-missing", What: "the API on " + ln.Addr().String(),
			Why: "it would let in clients without a certificate", Fix: "dyad init, or dyad join",
		}, ln.Close())
	}
	return front{
		name: "tcp",
		identify: func(r *http.Request) (Caller, error) {
			if r.TLS == nil {
				return Caller{}, denied("no-certificate", "the connection has no certificate", "connect with TLS")
			}
			c, err := who(*r.TLS)
			if err != nil {
				return Caller{}, denied("certificate", err.Error(), "dyad cert issue, or dyad token create, on a node of the cluster")
			}
			c.Address = remoteAddress(r.RemoteAddr)
			return c, nil
		},
	}.run(ctx, tls.NewListener(ln, conf), h, log)
}
