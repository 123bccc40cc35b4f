package witness

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"
	"time"

	"dyad/cluster/quorum"
)

// Bounds of one question to a register.
const (
	DefaultTimeout = 2 * time.Second
	MinTimeout     = 50 * time.Millisecond
	MaxTimeout     = 30 * time.Second
	// MaxURL bounds a witness's URL, in bytes.
	MaxURL = 1024
)

// Options of [Open].
type Options struct {
	// Cluster is the cluster's ID. Required.
	Cluster string
	// Certificate returns this node's certificate with the cluster CA as the last
	// of its chain; it is asked for at every connection, as certificates renew. A
	// witness server needs it, a file and an etcd do not.
	Certificate func() (*tls.Certificate, error)
	// Token is what a witness that takes new clusters by token wants once.
	Token string
	// Timeout bounds each question; 0 is DefaultTimeout.
	Timeout time.Duration
	// Release is this build's, for the witness's log.
	Release string
}

// Witness is an open register.
type Witness interface {
	quorum.Register
	// Check asks what stands and how long that took. An error is in the report.
	Check(ctx context.Context) Report
	// Close lets go of what the register holds open.
	Close() error
}

// Report is what a question to a register showed.
type Report struct {
	// Kind is https, file, etcd or memory.
	Kind string `json:"kind"`
	// Release is the witness server's; empty for the others.
	Release string        `json:"release,omitempty"`
	Latency time.Duration `json:"latency_ns"`
	Claim   quorum.Claim  `json:"claim,omitzero"`
	// Err is why there is no claim.
	Err error `json:"-"`
}

// The kinds of register, which are the schemes of their URLs.
const (
	KindHTTPS  = "https"
	KindFile   = "file"
	KindEtcd   = "etcd"
	KindMemory = "memory"
)

// Open prepares the register at a URL; nothing is contacted before the first
// question. The forms are
//
//	https://host:port#FINGERPRINT   a witness server; the fingerprint is the SHA-256
//	                                of its certificate, and without one the system's
//	                                roots decide
//	file:///mnt/dyad/               a directory that both nodes mount
//	etcd://host:port,host:port/key?ca=FILE&cert=FILE&key=FILE
//
// Errors say what is wrong with the URL or the options.
func Open(raw string, o Options) (Witness, error) {
	t, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout < MinTimeout || o.Timeout > MaxTimeout {
		return nil, fmt.Errorf("the witness's timeout %s is not %s–%s", o.Timeout, MinTimeout, MaxTimeout)
	}
	probe := quorum.Claim{Cluster: o.Cluster, Epoch: 1, Mode: quorum.Pair}
	if err := probe.Check(); err != nil {
		return nil, err
	}
	switch t.Kind {
	case KindFile:
		return openFile(t, o), nil
	case KindEtcd:
		return openEtcd(t, o)
	}
	return openHTTPS(t, o)
}

// Target is a witness's URL, taken apart.
type Target struct {
	Kind string
	// Hosts are host:port: one for https, one or more for etcd.
	Hosts []string
	// Path is the directory of a file, or the key in an etcd.
	Path string
	// Fingerprint is the SHA-256 of the server's certificate, as 64 lower-case
	// hexadecimal digits; empty: the system's roots decide.
	Fingerprint string
	// CA, Cert and Key are PEM files for an etcd.
	CA, Cert, Key string
	// Insecure allows an etcd without TLS.
	Insecure bool
}

// URL is the target's canonical form. It holds no secret.
func (t Target) URL() string {
	switch t.Kind {
	case KindFile:
		return (&url.URL{Scheme: KindFile, Path: t.Path}).String()
	case KindEtcd:
		q := url.Values{}
		for k, v := range map[string]string{"ca": t.CA, "cert": t.Cert, "key": t.Key} {
			if v != "" {
				q.Set(k, v)
			}
		}
		if t.Insecure {
			q.Set("insecure", "true")
		}
		u := url.URL{Path: t.Path, RawQuery: q.Encode()}
		return KindEtcd + "://" + strings.Join(t.Hosts, ",") + u.String()
	}
	u := KindHTTPS + "://" + t.Hosts[0]
	if t.Fingerprint != "" {
		u += "#" + t.Fingerprint
	}
	return u
}
