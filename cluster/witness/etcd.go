package witness

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"dyad/cluster/quorum"
)

// etcd is a register in a key of another etcd cluster: a transaction that
// compares the key's modification revision. It must be another one than the
// cluster's own store, which is what it decides about.
type etcd struct {
	t      Target
	o      Options
	client *clientv3.Client
}

func openEtcd(t Target, o Options) (Witness, error) {
	conf := clientv3.Config{
		Endpoints: slices.Clone(t.Hosts), DialTimeout: o.Timeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: o.Timeout,
		Logger: zap.NewNop(),
	}
	scheme := "https://"
	if t.Insecure {
		scheme = "http://"
	} else {
		var err error
		if conf.TLS, err = EtcdTLS(t.CA, t.Cert, t.Key); err != nil {
			return nil, fmt.Errorf("the witness %s: %w", t.URL(), err)
		}
	}
	for i, h := range conf.Endpoints {
		conf.Endpoints[i] = scheme + h
	}
	client, err := clientv3.New(conf)
	if err != nil {
		return nil, fmt.Errorf("the witness %s: %w", t.URL(), err)
	}
	return &etcd{t: t, o: o, client: client}, nil
}

// EtcdTLS are the settings for a client of an etcd that others run, from PEM
// files. Without cert it shows none.
func EtcdTLS(ca, cert, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", ca)
	}
	if cert == "" {
		return conf, nil
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		return nil, err
	}
	// Read again at every connection: certificates renew.
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(cert, key)
		return &c, err
	}
	return conf, nil
}

// Get implements quorum.Register.
func (e *etcd) Get(ctx context.Context) (quorum.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	c, rev, err := e.read(ctx)
	if err == nil && rev == 0 {
		return c, fmt.Errorf("%w: there is no key %s", quorum.ErrUnknown, e.t.Path)
	}
	return c, err
}

// Create implements quorum.Register.
func (e *etcd) Create(ctx context.Context, first quorum.Claim) (quorum.Claim, error) {
	return e.change(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		return create(e.o.Cluster, stands, known, first)
	})
}

// Swap implements quorum.Register.
func (e *etcd) Swap(ctx context.Context, from, to quorum.Claim) (quorum.Claim, error) {
	return e.change(ctx, func(stands quorum.Claim, known bool) (quorum.Claim, error) {
		return swap(e.o.Cluster, stands, known, from, to)
	})
}

// Check implements Witness.
func (e *etcd) Check(ctx context.Context) Report { return check(ctx, KindEtcd, e) }

// Close implements Witness.
func (e *etcd) Close() error { return e.client.Close() }

// change decides on what it reads, and again if somebody wrote in between. Each
// round but the last was lost to a change of another, and ctx bounds them.
func (e *etcd) change(ctx context.Context, decide decision) (quorum.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	for {
		stands, rev, err := e.read(ctx)
		if err != nil {
			return stands, err
		}
		next, err := decide(stands, rev != 0)
		if err != nil || rev != 0 && next == stands {
			return next, err
		}
		value, err := json.Marshal(next)
		if err != nil {
			return next, fmt.Errorf("%w: %w", quorum.ErrBadClaim, err)
		}
		r, err := e.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(e.t.Path), "=", rev)).
			Then(clientv3.OpPut(e.t.Path, string(value))).Commit()
		if err != nil {
			return stands, unavailable(err)
		}
		if r.Succeeded {
			return next, nil
		}
	}
}

// read is a linearizable read of the key; rev is 0 if there is none.
func (e *etcd) read(ctx context.Context) (c quorum.Claim, rev int64, err error) {
	r, err := e.client.Get(ctx, e.t.Path)
	if err != nil {
		return c, 0, unavailable(err)
	}
	if len(r.Kvs) == 0 {
		return c, 0, nil
	}
	kv := r.Kvs[0]
	if err := json.Unmarshal(kv.Value, &c); err != nil {
		return c, 0, unavailable(fmt.Errorf("the key %s holds no claim: %w", e.t.Path, err))
	}
	if err := errors.Join(c.Check(), ours(e.o.Cluster, c)); err != nil {
		return c, 0, unavailable(fmt.Errorf("the key %s: %w", e.t.Path, err))
	}
	return c, kv.ModRevision, nil
}
