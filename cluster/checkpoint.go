package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dyad/projections"
)

// checkpointVersion is raised when a release can't read what an older one wrote.
const checkpointVersion = 1

// FileCheckpoint keeps the state in one file: written beside, fsynced, renamed,
// with a hash, so that a torn write is seen as such and never believed.
type FileCheckpoint struct{ Path string }

type checkpointFile struct {
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"`
	State   json.RawMessage `json:"state"`
}

// Load implements [Checkpoint]. A file of another version, or one that does not
// match its hash, is an error: the caller folds the log from its start.
func (c FileCheckpoint) Load() (projections.State, bool, error) {
	var s projections.State
	b, err := os.ReadFile(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	var f checkpointFile
	if err := json.Unmarshal(b, &f); err != nil {
		return s, false, fmt.Errorf("%s: %w", c.Path, err)
	}
	if f.Version != checkpointVersion {
		return s, false, fmt.Errorf("%s has version %d, this release reads %d", c.Path, f.Version, checkpointVersion)
	}
	if sum := sha256.Sum256(f.State); hex.EncodeToString(sum[:]) != f.SHA256 {
		return s, false, fmt.Errorf("%s does not match its hash", c.Path)
	}
	if err := json.Unmarshal(f.State, &s); err != nil {
		return s, false, fmt.Errorf("%s: %w", c.Path, err)
	}
	return s, true, nil
}

// Save implements [Checkpoint].
func (c FileCheckpoint) Save(_ context.Context, s projections.State) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	b, err := json.Marshal(checkpointFile{checkpointVersion, hex.EncodeToString(sum[:]), body})
	if err != nil {
		return err
	}
	return writeFile(c.Path, b)
}

// writeFile replaces a file atomically and durably.
func writeFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
