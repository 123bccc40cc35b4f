package node

import (
	"fmt"
	"path/filepath"

	"dyad/cluster/config"
	"dyad/failover/detect"
)

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
	return "https://" + detect.HostPort(c.Address, c.Ports.StorePeer)
}

func clientURL(c config.Config) string {
	return fmt.Sprintf("https://127.0.0.1:%d", c.Ports.StoreClient)
}

func apiAddress(c config.Config) string { return detect.HostPort(c.Address, c.Ports.API) }

func gossipAddress(c config.Config) string { return detect.HostPort(c.Address, c.Ports.Gossip) }
