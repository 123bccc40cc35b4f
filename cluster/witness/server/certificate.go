package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Files of the certificate that a witness makes for itself, and its life. The
// clusters pin it, so it lives as long as the hardware.
const (
	certFile = "witness.crt"
	keyFile  = "witness.key"
	ownLife  = 20 * 365 * 24 * time.Hour
	clockOff = 24 * time.Hour // how wrong the clock of either side may be
)

// Certificate loads a key pair from PEM files or, if both names are empty, the
// witness's own from its data directory, which it makes at the first start. The
// data directory must be held by an open [Store].
func Certificate(dir, cert, key string, now time.Time) (tls.Certificate, error) {
	if (cert == "") != (key == "") {
		return tls.Certificate{}, errors.New("a certificate and its key come together\n  try: --cert FILE --key FILE, or neither")
	}
	if cert == "" {
		cert, key = filepath.Join(dir, certFile), filepath.Join(dir, keyFile)
		if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) {
			if err := makeCertificate(cert, key, now); err != nil {
				return tls.Certificate{}, fmt.Errorf("the witness's certificate can't be made: %w", err)
			}
		}
	}
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return c, fmt.Errorf("the witness's certificate: %w", err)
	}
	return c, nil
}

func makeCertificate(cert, key string, now time.Time) error {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "dyad witness"}, DNSNames: []string{"dyad-witness"},
		NotBefore: now.Add(-clockOff), NotAfter: now.Add(ownLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	// The key first: a certificate without its key would be found at the next start.
	if err := writePEM(key, "PRIVATE KEY", raw); err != nil {
		return err
	}
	return writePEM(cert, "CERTIFICATE", der)
}

// writePEM writes a file durably; a crash leaves it as it was or whole.
func writePEM(path, kind string, der []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
