package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// tokenPrefix begins every token: a leaked one is found by searching for it.
const tokenPrefix = "dyad1"

// tokenIDLen is how much of the fingerprint is the ID, in hex digits.
const tokenIDLen = 12

// Token is a join token. Its secret is the seed of an Ed25519 key. Whoever joins
// proves with a self-signed certificate that it has the key, so the secret does
// not cross the wire; the log knows the public key's fingerprint alone.
type Token struct {
	// ID is the beginning of Fingerprint.
	ID string
	// Fingerprint is the SHA-256 of the public key.
	Fingerprint string
	// CA is the fingerprint of the cluster's authority, which the token pins.
	CA  string
	key Secret // the seed
}

// NewToken draws a token for the cluster whose authority has the fingerprint ca.
func NewToken(ca string) Token {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails (crypto/rand)
	return tokenOf(seed, ca)
}

func tokenOf(seed []byte, ca string) Token {
	pub := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	f := Fingerprint(pub)
	return Token{ID: f[:tokenIDLen], Fingerprint: f, CA: ca, key: NewSecret(seed)}
}

// Reveal is the token as one word: dyad1.ID.SECRET.CA. It is shown once, to who
// asked for it.
func (t Token) Reveal() string {
	return strings.Join([]string{tokenPrefix, t.ID, base64.RawURLEncoding.EncodeToString(t.key.Reveal()), t.CA}, ".")
}

// errToken says nothing about what was given: it may be nearly a token.
var errToken = errors.New("this is not a token: one begins with " + tokenPrefix + ". and has four parts; copy it whole, or make one with dyad token create")

// ParseToken reads what Reveal wrote. The error does not repeat it.
func ParseToken(s string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(s), ".")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return Token{}, errToken
	}
	seed, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	ca, cerr := hex.DecodeString(parts[3])
	if err != nil || cerr != nil || len(seed) != ed25519.SeedSize || len(ca) != 32 {
		return Token{}, errToken
	}
	t := tokenOf(seed, hex.EncodeToString(ca))
	if t.ID != parts[1] {
		return Token{}, errToken
	}
	return t, nil
}

// certificate is the self-signed certificate that a joining node shows.
func (t Token) certificate(now time.Time) (*tls.Certificate, error) {
	key := ed25519.NewKeyFromSeed(t.key.Reveal())
	tpl := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "dyad token"}, NotBefore: now.Add(-Skew), NotAfter: now.Add(Skew),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// tokenKey is the fingerprint of the token that a certificate shows, empty if it
// is not one of a token. TLS has proved by then that the peer has the key.
func tokenKey(c *x509.Certificate) string {
	pub, ok := c.PublicKey.(ed25519.PublicKey)
	if !ok || len(c.URIs) > 0 {
		return ""
	}
	return Fingerprint(pub)
}
