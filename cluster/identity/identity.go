package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Kind is what a certificate stands for.
type Kind string

// The kinds.
const (
	Node Kind = "node"
	User Kind = "user"
)

const scheme = "dyad"

// Identity is who a certificate, or a token, says it is.
type Identity struct {
	Cluster string
	Kind    Kind
	Name    string
	// Role is a user's; the word means something to the API only.
	Role string
}

// uri is the identity as a certificate carries it.
func (i Identity) uri() *url.URL {
	u := &url.URL{Scheme: scheme, Host: i.Cluster, Path: "/" + string(i.Kind) + "/" + i.Name}
	if i.Role != "" {
		u.RawQuery = url.Values{"role": {i.Role}}.Encode()
	}
	return u
}

// Of reads the identity in a certificate. It says nothing about whether the
// certificate is worth anything: connections made with the configurations of
// this package have been verified.
func Of(c *x509.Certificate) (Identity, error) {
	var found []Identity
	for _, u := range c.URIs {
		kind, name, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		if u.Scheme != scheme || !ok {
			continue
		}
		found = append(found, Identity{Cluster: u.Host, Kind: Kind(kind), Name: name, Role: u.Query().Get("role")})
	}
	if len(found) != 1 {
		return Identity{}, errors.New("the certificate carries no identity of a dyad cluster")
	}
	return found[0], found[0].check()
}

// check tells what is wrong with an identity.
func (i Identity) check() error {
	switch {
	case !word(i.Cluster):
		return fmt.Errorf("the cluster %q is no cluster's ID", i.Cluster)
	case i.Kind != Node && i.Kind != User:
		return fmt.Errorf("%q is neither node nor user", i.Kind)
	case !word(i.Name):
		return fmt.Errorf("the name %q has characters other than letters, digits, dots, - and _", i.Name)
	case i.Kind == Node && i.Role != "", i.Kind == User && !word(i.Role):
		return fmt.Errorf("a %s with the role %q makes no sense", i.Kind, i.Role)
	}
	return nil
}

// maxWord bounds a name, in bytes.
const maxWord = 63

// word tells whether s may stand in an identity.
func word(s string) bool {
	return s != "" && len(s) <= maxWord && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// Fingerprint is the SHA-256 of data, in hex: how certificates, public keys and
// gossip keys are named.
func Fingerprint(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
