package identity

import (
	"errors"
	"os"
	"path/filepath"
)

// The files in a Dir. All are readable by their owner alone.
const (
	caCertFile   = "ca.crt"
	caKeyFile    = "ca.key"
	nodeCertFile = "node.crt"
	nodeKeyFile  = "node.key"
	gossipFile   = "gossip.keys"
)

// Dir is where a node keeps its identity: pki in its data directory.
type Dir string

// DirIn is the Dir of a data directory.
func DirIn(dataDir string) Dir { return Dir(filepath.Join(dataDir, "pki")) }

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// CACert, NodeCert and NodeKey are the paths that the store's process reads.
func (d Dir) CACert() string { return d.path(caCertFile) }

// NodeCert is the node's certificate with the authority's behind it.
func (d Dir) NodeCert() string { return d.path(nodeCertFile) }

// NodeKey is the node's private key.
func (d Dir) NodeKey() string { return d.path(nodeKeyFile) }

// write replaces files durably, in the order given: each is written beside its
// place and synced first, so that between two of the replacements lie
// microseconds. After a crash each file is the old one or the new one.
func (d Dir) write(files ...file) (err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	temps := make([]string, 0, len(files))
	defer func() {
		for _, t := range temps {
			if rerr := os.Remove(t); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}()
	for _, f := range files {
		t, err := os.CreateTemp(string(d), f.name+".*.tmp") // mode 0600
		if err != nil {
			return err
		}
		temps = append(temps, t.Name())
		_, err = t.Write(f.content)
		if err = errors.Join(err, t.Sync(), t.Close()); err != nil {
			return err
		}
	}
	for i, f := range files {
		if err := os.Rename(temps[i], d.path(f.name)); err != nil {
			return err
		}
	}
	h, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(h.Sync(), h.Close())
}

type file struct {
	name    string
	content []byte
}
