package registertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// CA is a cluster's CA for tests.
type CA struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a CA.
func NewCA(t testing.TB) *CA {
	t.Helper()
	c := &CA{t: t, key: newKey(t)}
	tmpl := template("cluster CA")
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	c.cert = sign(t, tmpl, tmpl, c.key.Public(), c.key)
	return c
}

// Leaf is what a certificate says; the zero time means an hour from now.
type Leaf struct {
	URI      string // dyad://CLUSTER/KIND/NAME
	NotAfter time.Time
	Usage    x509.ExtKeyUsage // zero: client
}

// Node makes the certificate of a node, with the CA as the last of its chain.
func (c *CA) Node(cluster, name string) *tls.Certificate {
	return c.Issue(Leaf{URI: "dyad://" + cluster + "/node/" + name})
}

// Issue makes a certificate, with the CA as the last of its chain.
func (c *CA) Issue(l Leaf) *tls.Certificate {
	c.t.Helper()
	u, err := url.Parse(l.URI)
	if err != nil {
		c.t.Fatal(err)
	}
	key := newKey(c.t)
	tmpl := template(l.URI)
	tmpl.URIs = []*url.URL{u}
	if !l.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = l.NotAfter.Add(-time.Hour), l.NotAfter
	}
	if l.Usage == 0 {
		l.Usage = x509.ExtKeyUsageClientAuth
	}
	tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{l.Usage}
	leaf := sign(c.t, tmpl, c.cert, key.Public(), c.key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, c.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// Cert is the CA's own certificate.
func (c *CA) Cert() *x509.Certificate { return c.cert }

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
