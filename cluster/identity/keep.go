package identity

import (
	"context"
	"crypto/x509"
	"time"
)

// renewRetry is the pause after a renewal failed.
const renewRetry = 10 * time.Minute

// maxSleep bounds how long the keeper trusts its timer: a clock that was set
// shows within it.
const maxSleep = time.Hour

// RenewAt is when a certificate is renewed: at two thirds of its lifetime.
func RenewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// Expiring tells whether a certificate has less than a sixth of its lifetime
// left: its renewal should have happened and did not.
func Expiring(notBefore, notAfter, now time.Time) bool {
	return notAfter.Sub(now) < notAfter.Sub(notBefore)/6
}

// Keep renews this node's certificate in time, until ctx ends.
func (s *Store) Keep(ctx context.Context) {
	wait := time.Duration(0)
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.renewed:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return
		}
		left := RenewAt(s.Current().Leaf).Sub(s.now())
		if left > 0 {
			wait = min(left, maxSleep)
			continue
		}
		wait = 0
		if err := s.Renew("in time"); err != nil {
			if s.o.Log != nil {
				s.o.Log.Error("this node's certificate can't be renewed", "event", "certificate.renew", "reason", err)
			}
			wait = renewRetry
		}
	}
}
