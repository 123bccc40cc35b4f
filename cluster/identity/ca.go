package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// Lifetimes.
const (
	// CALifetime is the authority's: longer than an appliance lives.
	CALifetime = 10 * 365 * 24 * time.Hour
	// NodeLifetime is that of a node's certificate, which renews itself.
	NodeLifetime = 90 * 24 * time.Hour
	// MinUserLifetime and MaxUserLifetime bound a user's certificate.
	MinUserLifetime = time.Hour
	MaxUserLifetime = 366 * 24 * time.Hour
	// Skew is by how much a certificate is dated back, for clocks that are behind.
	Skew = time.Hour
)

// The PEM blocks.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	pemRequest     = "CERTIFICATE REQUEST"
)

// Authority is a cluster's certificate authority.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// NewKey draws a private key for a certificate.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newAuthority makes the authority of a cluster.
func newAuthority(cluster string, now time.Time) (*Authority, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	u := &url.URL{Scheme: scheme, Host: cluster, Path: "/ca"}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "dyad cluster " + cluster}, URIs: []*url.URL{u},
		NotBefore: now.Add(-Skew), NotAfter: now.Add(CALifetime), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert, key}, err
}

// Cluster is the ID of the authority's cluster.
func (a *Authority) Cluster() string {
	for _, u := range a.Cert.URIs {
		if u.Scheme == scheme && u.Path == "/ca" {
			return u.Host
		}
	}
	return ""
}

// Fingerprint names the authority; join tokens pin it.
func (a *Authority) Fingerprint() string { return Fingerprint(a.Cert.Raw) }

// Host is the name that every node's certificate of a cluster carries, and no
// user's: the store lets in who has it.
func Host(cluster string) string { return "node." + cluster + ".dyad" }

// SignNode makes the certificate of a node at address.
func (a *Authority) SignNode(pub crypto.PublicKey, name string, address netip.Addr, now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		NotAfter: now.Add(NodeLifetime), DNSNames: []string{name, "localhost", Host(a.Cluster())},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), address.AsSlice()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if !address.IsValid() {
		return nil, fmt.Errorf("node %s has no address", name)
	}
	return a.sign(t, pub, Identity{Cluster: a.Cluster(), Kind: Node, Name: name}, now)
}

// SignUser makes the certificate of a user. It is good for clients only.
func (a *Authority) SignUser(pub crypto.PublicKey, name, role string, ttl time.Duration, now time.Time) (*x509.Certificate, error) {
	if ttl < MinUserLifetime || ttl > MaxUserLifetime {
		return nil, fmt.Errorf("a user's certificate is good for %s to %s, not %s", MinUserLifetime, MaxUserLifetime, ttl)
	}
	t := &x509.Certificate{NotAfter: now.Add(ttl), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	return a.sign(t, pub, Identity{Cluster: a.Cluster(), Kind: User, Name: name, Role: role}, now)
}

func (a *Authority) sign(t *x509.Certificate, pub crypto.PublicKey, id Identity, now time.Time) (*x509.Certificate, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	t.SerialNumber, t.Subject, t.URIs = serial(), pkix.Name{CommonName: id.Name}, []*url.URL{id.uri()}
	t.NotBefore, t.KeyUsage, t.BasicConstraintsValid = now.Add(-Skew), x509.KeyUsageDigitalSignature, true
	if t.NotAfter.After(a.Cert.NotAfter) {
		t.NotAfter = a.Cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", id.Name, err)
	}
	return x509.ParseCertificate(der)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return n
}

// Request is a certificate signing request for key, in PEM. What it asks for is
// decided by whoever signs; it proves that the key is held.
func Request(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), err
}

// ReadRequest reads the public key of a request, and its fingerprint, after
// checking the signature.
func ReadRequest(b []byte) (pub crypto.PublicKey, fingerprint string, err error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemRequest {
		return nil, "", errors.New("there is no certificate request in it")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, "", fmt.Errorf("the certificate request is broken: %w", err)
	}
	if k, ok := r.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, "", errors.New("the certificate request is for another key than ECDSA P-256")
	}
	return r.PublicKey, Fingerprint(r.RawSubjectPublicKeyInfo), nil
}

// EncodeCertificates writes certificates in PEM.
func EncodeCertificates(list ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return out
}

// EncodeKey writes a private key in PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), err
}

func decodeCertificates(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return out, nil
}

func decodeKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemKey {
		return nil, errors.New("there is no private key in it")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T can't sign", k)
	}
	return s, nil
}
