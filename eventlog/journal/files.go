package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	segmentSuffix = ".journal"
	damagedSuffix = ".damaged"
	cursorFile    = "copied.json"
	cursorVersion = 1
)

// file is a segment on disk.
type file struct {
	index   uint64
	damaged bool // kept, under another name, once its facts were copied
}

func segmentName(index uint64) string { return fmt.Sprintf("%016x%s", index, segmentSuffix) }

// cursor is how far facts were copied into the log.
type cursor struct {
	Version int    `json:"version"`
	Boot    string `json:"boot"`
	N       uint64 `json:"n"`
	// Tail is the hash of the last record on disk when the cursor was written:
	// where the chain goes on if all segments are gone.
	Tail string `json:"tail"`
}

func readCursor(dir string) (cursor, error) {
	var c cursor
	b, err := os.ReadFile(filepath.Join(dir, cursorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return cursor{}, &DamageError{File: filepath.Join(dir, cursorFile), Why: err}
	}
	return c, nil
}

func writeCursor(dir string, c cursor) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := writeWhole(dir, cursorFile, append(b, '\n'))
	if err != nil {
		return err
	}
	return f.Close()
}

// writeWhole replaces a file in dir: written beside it, synced, renamed, and the
// directory synced. It returns it open for appending.
func writeWhole(dir, name string, content []byte) (_ *os.File, err error) {
	temp := filepath.Join(dir, name+".tmp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
			_ = os.Remove(temp) // gone, or renamed already
		}
	}()
	if _, err = f.Write(content); err != nil {
		return nil, err
	}
	if err = f.Sync(); err != nil {
		return nil, err
	}
	if err = os.Rename(temp, filepath.Join(dir, name)); err != nil {
		return nil, err
	}
	return f, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// listSegments lists the segments in dir, oldest first. highest is the highest
// index that a segment, or one kept as damaged, ever had here.
func listSegments(dir string) (out []file, highest uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		name, damaged := strings.CutSuffix(e.Name(), damagedSuffix)
		hex, ok := strings.CutSuffix(name, segmentSuffix)
		index, err := strconv.ParseUint(hex, 16, 64)
		if !ok || err != nil || name != segmentName(index) {
			continue
		}
		highest = max(highest, index)
		if !damaged {
			out = append(out, file{index: index})
		}
	}
	slices.SortFunc(out, func(a, b file) int {
		if a.index < b.index {
			return -1
		}
		return 1
	})
	return out, highest, nil
}
