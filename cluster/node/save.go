package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/node/backup"
	"dyad/eventlog"
)

// secretPaths are the files and directories below the data directory that are
// this node's identity.
var secretPaths = []string{"pki"}

// stateName lies in the data directory too (cluster/etcdnode).
const stateName = "node.state"

// BackupOptions say what a backup holds, and who can read it.
type BackupOptions struct {
	// DataDir is where node.state and the secrets are read from.
	DataDir string
	Release string
	Now     time.Time
	// Recipients can open it; none leaves it plain, and the secrets out.
	Recipients []age.Recipient
	// NoSecrets leaves them out of an encrypted backup too.
	NoSecrets bool
	// Progress is called with how far it is, in events.
	Progress func(done, of eventlog.Seq)
	// Note is told what an operator should know.
	Note func(text string)
}

// Backup writes a backup of the log, as this node has it, to w: all events up to
// the head at the beginning, which is one consistent cut, as nothing below a head
// ever changes. It asks the agent; where that or its store gives no answer, it
// reads the files in the data directory, and says so to note. It only reads, so it
// works while the log can't be written.
func Backup(ctx context.Context, c *api.Client, w io.Writer, o BackupOptions) (backup.Manifest, error) {
	var m backup.Manifest
	src, err := fromAgent(ctx, c)
	if err == nil && src.head.Seq > 0 {
		// The newest event is in the store: does it answer?
		_, err = c.Segment(ctx, src.head.Seq, src.head.Seq)
	}
	var e *api.Error
	if errors.As(err, &e) && e.Class == api.ClassUnavailable {
		o.Note("the log is not served (" + e.Why + "): reading what lies on the disk")
		files, ferr := fromFiles(o.DataDir)
		if ferr != nil {
			o.Note(ferr.Error())
			return m, err
		}
		src, err = files, nil
	}
	if err != nil {
		return m, err
	}
	b, err := backup.NewWriter(w, backup.Manifest{
		Release: o.Release, Cluster: src.cluster, Node: src.node, Mode: src.mode, Epoch: src.head.Epoch, Time: o.Now.UTC(),
	}, o.Recipients...)
	if err != nil {
		return m, err
	}
	for b.Head().Seq < src.head.Seq {
		content, err := src.segment(ctx, b.Head().Seq+1)
		if err != nil {
			return m, err
		}
		if err := b.Segment(content); err != nil {
			return m, fmt.Errorf("the log can't be backed up as it is: %w\n  try: dyad log verify --from-start", err)
		}
		o.Progress(b.Head().Seq, src.head.Seq)
	}
	if b.Head() != src.head {
		return m, fmt.Errorf("%w: event %d is not the one this node says its log ends with\n  try: dyad log verify --from-start", eventlog.ErrCorrupt, b.Head().Seq)
	}
	if err := addFiles(b, src.node, src.cluster, o); err != nil {
		return m, err
	}
	return b.Close()
}

func addFiles(b *backup.Writer, node, cluster string, o BackupOptions) error {
	state, err := os.ReadFile(filepath.Join(o.DataDir, stateName))
	if err == nil {
		var s etcdnode.State
		if s, err = etcdnode.LoadState(o.DataDir); err == nil && (s.Node != node || s.Cluster != cluster) {
			err = fmt.Errorf("%s is of %s, and the agent is %s", o.DataDir, s.Node, node)
		}
	}
	if err != nil {
		return fmt.Errorf("the state of this node can't be read: %w\n  try: run as root, and give --config if dataDir is another", err)
	}
	if err := b.State(state); err != nil {
		return err
	}
	if len(o.Recipients) == 0 || o.NoSecrets {
		return nil
	}
	for _, top := range secretPaths {
		err := filepath.WalkDir(filepath.Join(o.DataDir, top), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // this release, or this node, has none
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(o.DataDir, path)
			if err != nil {
				return err
			}
			return b.Secret(filepath.ToSlash(name), content)
		})
		if err != nil {
			return fmt.Errorf("the secrets of this node can't be read: %w\n  try: run as root, or --without-secrets", err)
		}
	}
	return nil
}
