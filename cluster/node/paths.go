package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dyad/cluster/config"
	"dyad/failover/detect"
)

// KeyBytes is the length of the cluster key. It encrypts gossip (AES-256) and
// admits nodes to each other's API.
const KeyBytes = 32

// keyFile lies in the data directory, readable by its owner alone.
const keyFile = "cluster.key"

// KeyPath is where a node keeps the cluster key.
func KeyPath(c config.Config) string { return filepath.Join(c.DataDir, keyFile) }

// Names below the data directory.
const (
	storeName    = "store"
	segmentsName = "segments"
)

func storeDir(c config.Config) string   { return filepath.Join(c.DataDir, storeName) }
func journalDir(c config.Config) string { return filepath.Join(c.DataDir, "journal") }
func segmentsDir(c config.Config) string {
	return filepath.Join(c.DataDir, segmentsName)
}

func checkpointPath(c config.Config) string {
	return filepath.Join(c.DataDir, "checkpoint.json")
}
func addressPath(c config.Config) string { return filepath.Join(c.DataDir, "addresses.json") }

func peerURL(c config.Config) string {
	return "http://" + detect.HostPort(c.Address, c.Ports.StorePeer)
}

func clientURL(c config.Config) string {
	return fmt.Sprintf("http://127.0.0.1:%d", c.Ports.StoreClient)
}

func apiAddress(c config.Config) string { return detect.HostPort(c.Address, c.Ports.API) }

func gossipAddress(c config.Config) string { return detect.HostPort(c.Address, c.Ports.Gossip) }

// newKey draws a cluster key, in hex.
func newKey() string {
	b := make([]byte, KeyBytes)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// ParseKey reads a cluster key as it stands in its file.
func ParseKey(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil || len(b) != KeyBytes {
		return nil, fmt.Errorf("the cluster key is %d hexadecimal digits; copy cluster.key from the first node", 2*KeyBytes)
	}
	return b, nil
}

func readKey(c config.Config) ([]byte, string, error) {
	b, err := os.ReadFile(KeyPath(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%s is missing\n  try: copy cluster.key from the other node", KeyPath(c))
	}
	if err != nil {
		return nil, "", err
	}
	key, err := ParseKey(string(b))
	return key, strings.TrimSpace(string(b)), err
}

func writeKey(c config.Config, key string) error {
	return os.WriteFile(KeyPath(c), []byte(key+"\n"), 0o600)
}
