package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// clusterMark lies in the store's directory and names the cluster and the node it
// belongs to.
const clusterMark = "cluster"

// ownStore refuses a store that was put here from elsewhere. It would answer like
// this node's own, and events of the cluster would go into another log.
func (p *process) ownStore() error {
	b, err := os.ReadFile(filepath.Join(storeDir(p.cfg), clusterMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it never answered yet
	}
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(b)); got != p.mark() {
		return fmt.Errorf("%s belongs to %s, and this node is %s\n  try: put this node's own store back, or remove it, and the node joins again",
			storeDir(p.cfg), got, p.mark())
	}
	return nil
}

// markStore notes whose store it is, once it answers. Without the note it counts
// as this node's.
func (p *process) markStore() {
	path := filepath.Join(storeDir(p.cfg), clusterMark)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := os.WriteFile(path, []byte(p.mark()+"\n"), 0o600); err != nil {
		p.opts.Log.Warn("the store can't be marked as this node's", "event", "store.mark", "reason", err)
	}
}

func (p *process) mark() string { return p.cfg.Node + " of cluster " + p.file.get().Cluster }
