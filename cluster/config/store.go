package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// Bounds of an external store.
const (
	// DefaultPrefix stands before every key in an external store.
	DefaultPrefix = "dyad/"
	maxEndpoints  = 16
	maxPrefix     = 256 // bytes
)

// Store is an etcd cluster that somebody else runs, and that holds the log in
// place of a store on each of the two nodes. Both nodes must name the same one.
type Store struct {
	// Endpoints are https://HOST:PORT, at most 16; none: each node has a store of
	// its own.
	Endpoints []string `json:"endpoints"`
	// CA, Cert and Key are PEM files: whom to trust, and as whom to come. They are
	// read anew for every connection, so a renewal needs no restart.
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
	// Prefix stands before every key; the cluster's ID follows, so clusters may
	// share an etcd. 1-256 bytes; default dyad/.
	Prefix string `json:"prefix"`
}

// External tells whether the log lies in a store that others run.
func (s Store) External() bool { return len(s.Endpoints) > 0 }

func (s *Store) finish() {
	if s.Prefix == "" {
		s.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(s.Prefix, "/") {
		s.Prefix += "/"
	}
}

func (s Store) check() (errs []error) {
	if !s.External() {
		if s.CA != "" || s.Cert != "" || s.Key != "" || s.Prefix != "" {
			errs = append(errs, errors.New("store.endpoints: ca, cert, key and prefix are for an external etcd, and none is named"))
		}
		return errs
	}
	if len(s.Endpoints) > maxEndpoints {
		errs = append(errs, fmt.Errorf("store.endpoints: there are %d, more than %d", len(s.Endpoints), maxEndpoints))
	}
	seen := map[string]bool{}
	for _, e := range s.Endpoints {
		errs = append(errs, checkEndpoint(e)...)
		if seen[e] {
			errs = append(errs, fmt.Errorf("store.endpoints: %s is named twice", e))
		}
		seen[e] = true
	}
	for _, f := range []struct{ name, path string }{{"ca", s.CA}, {"cert", s.Cert}, {"key", s.Key}} {
		if !filepath.IsAbs(f.path) {
			errs = append(errs, fmt.Errorf("store.%s: %q is not the absolute path of a PEM file; an etcd that asks for no certificate lets anybody write the log", f.name, f.path))
		}
	}
	if len(s.Prefix) > maxPrefix || strings.ContainsFunc(s.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		errs = append(errs, fmt.Errorf("store.prefix: %.300q is not up to %d printable ASCII characters without a space", s.Prefix, maxPrefix))
	}
	return errs
}

func checkEndpoint(e string) []error {
	u, err := url.Parse(e)
	if err == nil {
		var host, port string
		host, port, err = net.SplitHostPort(u.Host)
		if err == nil && u.Scheme == "https" && host != "" && port != "" && *u == (url.URL{Scheme: u.Scheme, Host: u.Host}) {
			return nil
		}
	}
	return []error{fmt.Errorf("store.endpoints: %.300q is not https://HOST:PORT", e)}
}

// checkExternal: nobody takes over a log that neither node holds.
func (t Takeover) checkExternal() (errs []error) {
	if t.Authority != AuthorityAuto {
		errs = append(errs, fmt.Errorf("takeover.authority: %q: with store.endpoints the log needs neither node, so nobody takes it over; leave it out", t.Authority))
	}
	if len(t.Fence.Command) > 0 {
		errs = append(errs, errors.New("takeover.fence.command: with store.endpoints the log needs neither node, so nobody is fenced; leave it out"))
	}
	return errs
}
