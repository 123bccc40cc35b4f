package node

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/cluster/witness"
	"dyad/eventlog"
)

// witnesses implements cluster.Witness. A question opens the register and closes
// it again.
type witnesses struct {
	// certificate is this node's, with the cluster CA as the last of its chain;
	// nil: a witness server can't be asked, a file and an etcd can.
	certificate func() (*tls.Certificate, error)
	release     string
	// forget makes the steward ask anew what stands.
	forget func()
}

// Forget implements cluster.Witness.
func (w *witnesses) Forget() { w.forget() }

// Parse implements cluster.Witness.
func (*witnesses) Parse(url string) (eventlog.Witness, error) {
	t, err := witness.Parse(url)
	if err != nil {
		return eventlog.Witness{}, err
	}
	bare, _, _ := strings.Cut(t.URL(), "#")
	return eventlog.Witness{URL: bare, Fingerprint: t.Fingerprint}, nil
}

// open opens the register that the log names.
func (w *witnesses) open(at eventlog.Witness, cluster, token string) (witness.Witness, error) {
	return witness.Open(at.String(), witness.Options{
		Cluster: cluster, Certificate: w.certificate, Token: token, Release: w.release,
	})
}

// Enrol implements cluster.Witness.
func (w *witnesses) Enrol(ctx context.Context, at eventlog.Witness, token string, now quorum.Claim) (c quorum.Claim, err error) {
	r, err := w.open(at, now.Cluster, token)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return quorum.Enrol(ctx, r, now)
}

// Check implements cluster.Witness.
func (w *witnesses) Check(ctx context.Context, at eventlog.Witness, cluster string) (s api.WitnessStatus, err error) {
	r, err := w.open(at, cluster, "")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	rep := r.Check(ctx)
	s.Kind, s.Release, s.Latency = rep.Kind, rep.Release, rep.Latency
	if rep.Err == nil {
		s.Claim = &rep.Claim
	}
	return s, rep.Err
}
