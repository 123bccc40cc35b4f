package identity

import (
	"crypto"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// IssueUser signs a user's certificate, and gives it with the authority's behind
// it, in PEM.
func (s *Store) IssueUser(pub crypto.PublicKey, name, role string, ttl time.Duration) ([]byte, *x509.Certificate, error) {
	leaf, err := s.ca.SignUser(pub, name, role, ttl, s.issues(User, name))
	if err != nil {
		return nil, nil, err
	}
	return EncodeCertificates(leaf, s.ca.Cert), leaf, nil
}

// WriteUser writes what a user needs into dir, which is made: the key, the
// certificate and the authority's. It does not overwrite a key.
func WriteUser(dir string, key crypto.Signer, chain []byte) (ClientFiles, error) {
	f := UserFiles(dir)
	list, err := decodeCertificates(chain)
	if err != nil || len(list) != 2 {
		return f, errors.Join(err, errors.New("the answer is not a certificate with its authority's"))
	}
	b, err := EncodeKey(key)
	if err != nil {
		return f, err
	}
	if _, err := os.Lstat(f.Key); err == nil {
		return f, errors.New(f.Key + " exists; choose another directory, or move it away")
	}
	d := Dir(dir)
	return f, d.write(
		file{filepath.Base(f.Key), b}, file{filepath.Base(f.CA), EncodeCertificates(list[1])}, file{filepath.Base(f.Cert), chain},
	)
}
