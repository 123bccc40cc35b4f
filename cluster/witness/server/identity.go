package server

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxChain bounds how many certificates a client may show.
const maxChain = 4

// kindNode is the kind of certificate that may change a claim.
const kindNode = "node"

// identity is who a client's certificate says it is.
type identity struct {
	Cluster string
	// Kind is node for a node; what else a cluster's CA signs may only read.
	Kind string
	Name string
	// CA is the SHA-256 of the CA's public key, in hexadecimal.
	CA string
}

// identify checks a client's chain by itself: the last certificate is the CA,
// and it must have signed the first. That alone proves nothing, as anybody can
// make a CA; what counts is that the record was created under the same one.
func identify(chain []*x509.Certificate, now time.Time) (identity, error) {
	if n := len(chain); n < 2 || n > maxChain {
		return identity{}, fmt.Errorf("the chain has %d certificates; a node shows its own and, last, its cluster's CA", n)
	}
	leaf, ca := chain[0], chain[len(chain)-1]
	if !ca.BasicConstraintsValid || !ca.IsCA {
		return identity{}, errors.New("the last certificate of the chain is no CA")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca)
	for _, c := range chain[1 : len(chain)-1] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return identity{}, err
	}
	id, err := named(leaf)
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	id.CA = hex.EncodeToString(sum[:])
	return id, err
}

// named reads dyad://CLUSTER/KIND/NAME.
func named(leaf *x509.Certificate) (identity, error) {
	for _, u := range leaf.URIs {
		if u.Scheme != "dyad" {
			continue
		}
		kind, name, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		if ok && u.Host != "" && kind != "" && name != "" && !strings.Contains(name, "/") {
			return identity{Cluster: u.Host, Kind: kind, Name: name}, nil
		}
	}
	return identity{}, errors.New("the certificate names no dyad://CLUSTER/KIND/NAME")
}
