package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Peer is who is at the other end of a verified connection.
type Peer struct {
	Identity
	// Certificate is the fingerprint of what was shown, Issued when it was made.
	Certificate string
	Issued      time.Time
	// Token is the fingerprint of the join token, if that is what was shown;
	// then there is no Identity.
	Token string
}

// PeerOf says who is at the other end of a connection that ServerTLS verified. A
// certificate may have expired since: a connection can stay open for long.
func (s *Store) PeerOf(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, errors.New("no certificate was shown")
	}
	leaf := cs.PeerCertificates[0]
	if t := tokenKey(leaf); t != "" {
		return Peer{Token: t}, nil
	}
	if s.now().After(leaf.NotAfter) {
		return Peer{}, fmt.Errorf("the certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	id, err := Of(leaf)
	return Peer{Identity: id, Certificate: Fingerprint(leaf.Raw), Issued: leaf.NotBefore.Add(Skew)}, err
}

// base is what every connection has in common. A session is never resumed:
// a resumed one would not show its certificate again.
func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
}

// ServerTLS is for a listener of this node. A client is let in with a
// certificate of this cluster's authority, or with the key of a token for whose
// fingerprint tokens says yes; tokens may be nil. Certificates are read anew for
// each connection, so a renewal needs no restart.
func (s *Store) ServerTLS(tokens func(fingerprint string) bool) *tls.Config {
	c := base()
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Current(), nil }
	// Go's own verification knows one set of authorities and no tokens; what
	// follows does all of it.
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("no certificate was shown")
		}
		if t := tokenKey(cs.PeerCertificates[0]); t != "" {
			if tokens != nil && tokens(t) {
				return nil
			}
			return errors.New("the token is unknown, expired or revoked")
		}
		_, err := s.Verify(cs.PeerCertificates[0], x509.ExtKeyUsageClientAuth)
		return err
	}
	return c
}

// ClientTLS is for connections of this node to nodes of its cluster. The server
// must show a node's certificate; which address it was reached at does not
// matter, as every node may speak for the cluster.
func (s *Store) ClientTLS() *tls.Config {
	c := clientTLS(func(leaf *x509.Certificate) error { return s.verifyNode(leaf) })
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.Current(), nil }
	return c
}

// clientTLS verifies a server with verify alone.
func clientTLS(verify func(*x509.Certificate) error) *tls.Config {
	c := base()
	// The host name is no part of who a node is; VerifyConnection checks all
	// that is: chain, time, cluster, kind.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return errors.New("no certificate was shown")
		}
		if err := verify(cs.PeerCertificates[0]); err != nil {
			return &VerifyError{err}
		}
		return nil
	}
	return c
}

func (s *Store) verifyNode(leaf *x509.Certificate) error {
	id, err := s.Verify(leaf, x509.ExtKeyUsageServerAuth)
	if err == nil && id.Kind != Node {
		err = errors.New("it is not a node")
	}
	return err
}

// Verify checks a certificate: the chain to the cluster's authority, the time,
// what it may be used for, and the cluster it names.
func (s *Store) Verify(leaf *x509.Certificate, usage x509.ExtKeyUsage) (Identity, error) {
	return verify(s.ca.Cert, s.ca.Cluster(), leaf, usage, s.now())
}

func verify(ca *x509.Certificate, cluster string, leaf *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (Identity, error) {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	o := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
	if _, err := leaf.Verify(o); err != nil {
		return Identity{}, fmt.Errorf("the certificate is not good here: %w", err)
	}
	id, err := Of(leaf)
	if err == nil && id.Cluster != cluster {
		err = fmt.Errorf("the certificate is of cluster %s, and this is %s", id.Cluster, cluster)
	}
	return id, err
}

// JoinTLS is for the one connection of a node that joins: it shows the token's
// key, and the server must show a node's certificate under the authority that
// the token pins.
func JoinTLS(t Token, now time.Time) (*tls.Config, error) {
	own, err := t.certificate(now)
	if err != nil {
		return nil, err
	}
	c := base()
	c.InsecureSkipVerify = true // the pin is what counts, see clientTLS
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		for _, ca := range cs.PeerCertificates {
			if Fingerprint(ca.Raw) != t.CA {
				continue
			}
			a := &Authority{Cert: ca}
			id, err := verify(ca, a.Cluster(), cs.PeerCertificates[0], x509.ExtKeyUsageServerAuth, now)
			if err == nil && id.Kind != Node {
				err = errors.New("it is not a node")
			}
			if err != nil {
				return &VerifyError{err}
			}
			return nil
		}
		return &VerifyError{ErrPin}
	}
	return c, nil
}

// ErrPin: the server is not of the cluster that the token was made for.
var ErrPin = errors.New("the node there is not of the cluster that the token was made for")

// VerifyError is why a client does not trust a server.
type VerifyError struct{ Err error }

func (e *VerifyError) Error() string { return e.Err.Error() }

func (e *VerifyError) Unwrap() error { return e.Err }

// Untrusted tells this error from one of the network.
func (*VerifyError) Untrusted() bool { return true }
