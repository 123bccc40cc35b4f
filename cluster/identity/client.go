package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ClientFiles are the files of a user's certificate.
type ClientFiles struct{ Cert, Key, CA string }

// UserFiles are the files that dyad cert issue writes into dir.
func UserFiles(dir string) ClientFiles {
	return ClientFiles{filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"), filepath.Join(dir, caCertFile)}
}

// NodeFiles are those of the node itself.
func NodeFiles(d Dir) ClientFiles { return ClientFiles{d.NodeCert(), d.NodeKey(), d.CACert()} }

// Readable tells whether all of them can be read.
func (f ClientFiles) Readable() bool {
	for _, p := range []string{f.Cert, f.Key, f.CA} {
		h, err := os.Open(p)
		if err != nil {
			return false
		}
		_ = h.Close() // it was opened to see that it can be
	}
	return true
}

// Load is the configuration of a client with these files.
func (f ClientFiles) Load() (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("the certificate can't be used: %w", err)
	}
	b, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	ca, err := decodeCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("%s can't be used: %w", f.CA, err)
	}
	a := &Authority{Cert: ca[0]}
	c := clientTLS(func(leaf *x509.Certificate) error {
		id, err := verify(a.Cert, a.Cluster(), leaf, x509.ExtKeyUsageServerAuth, time.Now())
		if err == nil && id.Kind != Node {
			err = errors.New("it is not a node")
		}
		return err
	})
	c.Certificates = []tls.Certificate{own}
	return c, nil
}
