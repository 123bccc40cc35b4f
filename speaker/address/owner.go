package address

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// owner is the owner file: what this package put on which interface.
type owner struct {
	// Boot and Index void the claims after a reboot, and after the interface
	// was made anew: what is there then was put there by somebody else.
	Boot      string       `json:"boot"`
	Interface string       `json:"interface"`
	Index     int          `json:"index"`
	Addresses []netip.Addr `json:"addresses"`
}

// readOwner reads the owner file; one that does not exist claims nothing.
func readOwner(path string) (owner, error) {
	var o owner
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("read which addresses are ours: %w", err)
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return o, fmt.Errorf("%s, which says which addresses are ours, cannot be read: %w\n"+
			"  try: remove leftover service addresses with ip addr del, then remove the file", path, err)
	}
	return o, nil
}

// write replaces the file at once and returns when it is on disk.
func (o owner) write(path string) (err error) {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("record which addresses are ours: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("record which addresses are ours: %w", err)
		}
	}()
	if _, err = f.Write(append(b, '\n')); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}
