package etcdnode

import (
	"crypto/tls"
	"errors"
	"fmt"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// TLS are the files that the member shows and asks for certificates with. It
// reads Cert and Key anew for every connection, so a renewal needs no restart.
type TLS struct {
	Cert string `json:"cert"` // PEM, with the authority's certificate behind it
	Key  string `json:"key"`
	CA   string `json:"ca"`
	// Host is the name that whoever connects must have in its certificate: the
	// authority also signs users, and no user may write to the store.
	Host string `json:"host"`
}

// check tells what is missing, and that the URLs fit: https with TLS, http
// without it, which only tests may do.
func (t *TLS) check(urls ...string) error {
	if t != nil && (t.Cert == "" || t.Key == "" || t.CA == "" || t.Host == "") {
		return errors.New("store: TLS needs a certificate, a key, an authority and a host")
	}
	want := "http"
	if t != nil {
		want = "https"
	}
	for _, s := range urls {
		u, _, err := memberURL(s)
		if err != nil {
			return err
		}
		if u.Scheme != want {
			return fmt.Errorf("store: URL %q is not %s://ADDRESS:PORT", s, want)
		}
	}
	return nil
}

// apply puts TLS on both listeners of the member, and on its connections to
// other members.
func (t *TLS) apply(e *embed.Config) {
	if t == nil {
		return
	}
	info := transport.TLSInfo{
		CertFile: t.Cert, KeyFile: t.Key, TrustedCAFile: t.CA, ClientCertAuth: true,
		AllowedHostnames: []string{t.Host}, MinVersion: tls.VersionTLS13,
		// A node may come from any of its addresses; Host says that it is one.
		SkipClientSANVerify: true,
	}
	e.PeerTLSInfo, e.ClientTLSInfo = info, info
}
