package identity

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

const (
	// GossipKeyBytes is the length of a gossip key (AES-256).
	GossipKeyBytes = 32
	// MaxGossipKeys bounds a ring: the old key and the new one while it rotates,
	// and what a rotation that broke off left.
	MaxGossipKeys = 4
)

// NewGossipKey draws a key.
func NewGossipKey() []byte {
	b := make([]byte, GossipKeyBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

// GossipKeys are the keys that decrypt gossip; the first encrypts.
func (s *Store) GossipKeys() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.gossip)
}

// SetGossipKeys replaces the ring, durably. A ring that has no key in common
// with the one before is refused: it would cut this node off.
func (s *Store) SetGossipKeys(keys [][]byte) error {
	if err := checkGossip(keys); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(keys, func(k []byte) bool {
		return slices.ContainsFunc(s.gossip, func(o []byte) bool { return bytes.Equal(k, o) })
	}) {
		return errors.New("the new gossip keys have none in common with this node's")
	}
	if err := s.o.Dir.write(file{gossipFile, encodeGossip(keys)}); err != nil {
		return fmt.Errorf("write the gossip keys: %w", err)
	}
	s.gossip = slices.Clone(keys)
	return nil
}

func checkGossip(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > MaxGossipKeys {
		return fmt.Errorf("%d gossip keys; there are 1 to %d", len(keys), MaxGossipKeys)
	}
	for _, k := range keys {
		if len(k) != GossipKeyBytes {
			return fmt.Errorf("a gossip key has %d bytes", GossipKeyBytes)
		}
	}
	return nil
}

func encodeGossip(keys [][]byte) []byte {
	var b bytes.Buffer
	for _, k := range keys {
		b.WriteString(hex.EncodeToString(k) + "\n")
	}
	return b.Bytes()
}

func decodeGossip(b []byte) ([][]byte, error) {
	var out [][]byte
	for _, line := range bytes.Fields(b) {
		k := make([]byte, hex.DecodedLen(len(line)))
		if _, err := hex.Decode(k, line); err != nil {
			return nil, errors.New("a line of it is not hexadecimal")
		}
		out = append(out, k)
	}
	return out, checkGossip(out)
}

// Shared is a secret of the cluster for one purpose: the nodes, which all hold
// the authority's key, and nobody else, come to the same 32 bytes. It changes only
// with the authority.
func (s *Store) Shared(purpose string) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(s.ca.key)
	if err != nil {
		panic("the authority's key can't be encoded") // it was read or made here; the error might quote it
	}
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte("dyad/" + purpose))
	return mac.Sum(nil)
}
