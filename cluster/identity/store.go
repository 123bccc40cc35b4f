package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Options say whose identity it is.
type Options struct {
	Dir Dir
	// Node and Address go into the node's certificate.
	Node    string
	Address netip.Addr
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Log hears about renewals; nil: nobody.
	Log *slog.Logger
	// After, if given, is when the next certificate of a name may be issued at the
	// earliest: one of before would count as revoked.
	After func(kind Kind, name string) time.Time
	// Issued, if given, is called with every certificate that a renewal made.
	Issued func(c *x509.Certificate, why string)
}

func (o Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// Store is a node's identity: the authority, the node's own certificate, and the
// gossip keys, in memory and in a [Dir]. It may be used by several goroutines.
type Store struct {
	o  Options
	ca *Authority

	mu     sync.Mutex
	own    *tls.Certificate
	gossip [][]byte // the first encrypts

	renewed chan struct{} // room for one: the keeper should look at the clock again
}

// Create makes the identity of the first node of a cluster: the authority, the
// node's certificate, a gossip key. It replaces what is in the directory.
func Create(cluster string, o Options) (*Store, error) {
	ca, err := newAuthority(cluster, o.now())
	if err != nil {
		return nil, fmt.Errorf("make the cluster's authority: %w", err)
	}
	return install(o, ca, nil, [][]byte{NewGossipKey()})
}

// Grant is what a node that joins gets from the one that admits it.
type Grant struct {
	// Certificate is the node's, with the authority's behind it, in PEM.
	Certificate []byte
	// CAKey is the authority's key, in PEM.
	CAKey Secret
	// Gossip are the gossip keys, the first encrypts.
	Gossip []Secret
}

// Join writes the identity of a node that was granted one. key is the node's.
func Join(o Options, key crypto.Signer, g Grant) (*Store, error) {
	chain, err := decodeCertificates(g.Certificate)
	if err != nil || len(chain) != 2 {
		return nil, fmt.Errorf("the certificate of this node is broken: %w", errors.Join(err, errors.New("it should have two parts")))
	}
	caKey, err := decodeKey(g.CAKey.Reveal())
	if err != nil {
		return nil, fmt.Errorf("the authority's key is broken: %w", err)
	}
	ca := &Authority{chain[1], caKey}
	own := &tls.Certificate{Certificate: [][]byte{chain[0].Raw, chain[1].Raw}, PrivateKey: key, Leaf: chain[0]}
	if err := matches(own); err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, k := range g.Gossip {
		keys = append(keys, k.Reveal())
	}
	if err := checkGossip(keys); err != nil {
		return nil, err
	}
	return install(o, ca, own, keys)
}

// install writes a new identity, the certificate last: without it there is none.
func install(o Options, ca *Authority, own *tls.Certificate, gossip [][]byte) (*Store, error) {
	s := &Store{o: o, ca: ca, own: own, gossip: gossip, renewed: make(chan struct{}, 1)}
	caKey, err := EncodeKey(ca.key)
	if err != nil {
		return nil, err
	}
	if err := o.Dir.write(file{caCertFile, EncodeCertificates(ca.Cert)}, file{caKeyFile, caKey}, file{gossipFile, encodeGossip(gossip)}); err != nil {
		return nil, fmt.Errorf("write the identity: %w", err)
	}
	if own == nil {
		return s, s.Renew("first")
	}
	return s, s.keep(own)
}

// Open reads a node's identity. A node certificate that does not fit its key
// (a crash between the two), has expired, or names another address is made anew:
// the authority is here. Errors name the file and what to do.
func Open(o Options) (*Store, error) {
	s := &Store{o: o, renewed: make(chan struct{}, 1)}
	var caCert []*x509.Certificate
	caKey, err := read(o.Dir, caKeyFile, decodeKey)
	if err == nil {
		caCert, err = read(o.Dir, caCertFile, decodeCertificates)
	}
	if err == nil {
		s.gossip, err = read(o.Dir, gossipFile, decodeGossip)
	}
	if err != nil {
		return nil, err
	}
	s.ca = &Authority{caCert[0], caKey}
	if s.ca.Cluster() == "" || !samePublic(s.ca.Cert.PublicKey, caKey.Public()) {
		return nil, broken(o.Dir.path(caCertFile), errors.New("it does not fit "+caKeyFile))
	}
	own, err := tls.LoadX509KeyPair(o.Dir.NodeCert(), o.Dir.NodeKey())
	if err == nil {
		err = s.fits(own.Leaf)
	}
	if err != nil {
		if o.Log != nil {
			o.Log.Warn("this node's certificate is made anew", "event", "certificate.repair", "reason", err)
		}
		return s, s.Renew("repair")
	}
	s.own = &own
	return s, nil
}

// fits tells why a certificate is not this node's, now.
func (s *Store) fits(leaf *x509.Certificate) error {
	id, err := s.Verify(leaf, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	if id.Kind != Node || id.Name != s.o.Node || leaf.VerifyHostname(s.o.Address.String()) != nil {
		return fmt.Errorf("it is not of %s at %s", s.o.Node, s.o.Address)
	}
	return nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func matches(c *tls.Certificate) error {
	k, ok := c.PrivateKey.(crypto.Signer)
	if !ok || !samePublic(c.Leaf.PublicKey, k.Public()) {
		return errors.New("the certificate is not for this node's key")
	}
	return nil
}

func read[T any](d Dir, name string, parse func([]byte) (T, error)) (T, error) {
	b, err := os.ReadFile(d.path(name))
	var v T
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("%s is missing\n  try: restore it from a backup, or join this node anew", d.path(name))
	}
	if err == nil {
		v, err = parse(b)
	}
	if err != nil {
		return v, broken(d.path(name), err)
	}
	return v, nil
}

func broken(path string, err error) error {
	return fmt.Errorf("%s can't be used: %w\n  try: restore it from a backup, or join this node anew", path, err)
}

func (s *Store) now() time.Time { return s.o.now() }

// issues is the time that a new certificate is dated from.
func (s *Store) issues(kind Kind, name string) time.Time {
	now := s.now()
	if s.o.After == nil {
		return now
	}
	if after := s.o.After(kind, name); after.After(now) && after.Sub(now) < Skew {
		return after.Add(time.Second).Truncate(time.Second) // a certificate has whole seconds
	}
	return now
}

// Dir is where the identity lies.
func (s *Store) Dir() Dir { return s.o.Dir }

// CA is the cluster's authority.
func (s *Store) CA() *Authority { return s.ca }

// Current is the node's certificate, the authority's behind it.
func (s *Store) Current() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own
}

// Renew makes a new key and certificate for this node. New connections use it;
// those that stand go on. why goes to the log.
func (s *Store) Renew(why string) error {
	key, err := NewKey()
	if err != nil {
		return err
	}
	leaf, err := s.ca.SignNode(key.Public(), s.o.Node, s.o.Address, s.issues(Node, s.o.Node))
	if err != nil {
		return err
	}
	own := &tls.Certificate{Certificate: [][]byte{leaf.Raw, s.ca.Cert.Raw}, PrivateKey: key, Leaf: leaf}
	if err := s.keep(own); err != nil {
		return fmt.Errorf("write this node's certificate: %w", err)
	}
	if s.o.Log != nil {
		s.o.Log.Info("this node has a new certificate", "event", "certificate.renewed", "reason", why, "expires", leaf.NotAfter.UTC())
	}
	if s.o.Issued != nil {
		s.o.Issued(leaf, why)
	}
	return nil
}

// keep writes a certificate of this node with its key, and uses it.
func (s *Store) keep(own *tls.Certificate) error {
	key, err := EncodeKey(own.PrivateKey.(crypto.Signer))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.o.Dir.write(file{nodeKeyFile, key}, file{nodeCertFile, EncodeCertificates(own.Leaf, s.ca.Cert)}); err != nil {
		return err
	}
	s.own = own
	select {
	case s.renewed <- struct{}{}:
	default:
	}
	return nil
}

// Grant makes what a node that joins gets.
func (s *Store) Grant(pub crypto.PublicKey, node string, address netip.Addr) (Grant, *x509.Certificate, error) {
	leaf, err := s.ca.SignNode(pub, node, address, s.issues(Node, node))
	if err != nil {
		return Grant{}, nil, err
	}
	key, err := EncodeKey(s.ca.key)
	g := Grant{Certificate: EncodeCertificates(leaf, s.ca.Cert), CAKey: NewSecret(key)}
	for _, k := range s.GossipKeys() {
		g.Gossip = append(g.Gossip, NewSecret(k))
	}
	return g, leaf, err
}

// PendingKey is the key of a node that has no identity yet. It is written before
// it is used, so that a join that broke off is repeated with the same key.
func PendingKey(d Dir) (crypto.Signer, error) {
	b, err := os.ReadFile(d.NodeKey())
	if err == nil {
		return decodeKey(b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	if b, err = EncodeKey(key); err != nil {
		return nil, err
	}
	return key, d.write(file{nodeKeyFile, b})
}
