package etcdnode

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"dyad/eventlog"
)

// Bounds of what is kept of stores that were put aside. The newest is kept
// however large it is.
const (
	MaxArchives     = 5
	MaxArchiveBytes = 4 << 30
)

const (
	archiveDir = "archive"
	// archiveTime is the time of an archive in its name: UTC, to the second.
	archiveTime = "20060102T150405Z"
	// removing marks an archive whose removal has begun.
	removing = ".removing"
)

// Archived is a store that was put aside.
type Archived struct {
	// Path is its directory, laid out as the store's was.
	Path string
	// Epoch is the one that the node was at when it was put aside, Time when
	// that was, by the node's clock, to the second.
	Epoch eventlog.Epoch
	Time  time.Time

	n int // counts those of one epoch and second
}

// Archive puts the stopped store in dir aside, below dataDir/archive, under a
// name made of now and epoch, and returns where. Both must be on one file
// system: it is one rename, so dir is either whole or gone.
//
// It can be repeated: without a store in dir it returns the newest archive of
// that epoch, or ErrNoStore. It deletes nothing; see [PruneArchives].
func Archive(dataDir, dir string, epoch eventlog.Epoch, now time.Time) (string, error) {
	all, err := Archives(dataDir)
	if err != nil {
		return "", err
	}
	at := Archived{Epoch: epoch, Time: now.UTC().Truncate(time.Second)}
	var newest Archived
	for _, a := range all {
		if a.Epoch == epoch {
			newest = a
			if a.Time.Equal(at.Time) {
				at.n = a.n + 1
			}
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if newest.Path == "" {
			return "", fmt.Errorf("put the store aside: %w: %s", ErrNoStore, dir)
		}
		return newest.Path, nil
	}
	below := filepath.Join(dataDir, archiveDir)
	if err := os.MkdirAll(below, 0o700); err != nil {
		return "", fmt.Errorf("put the store aside: %w", notWritable(dataDir, err))
	}
	path := filepath.Join(below, at.name())
	if err := os.Rename(dir, path); err != nil {
		return "", fmt.Errorf("put the store aside: %w", notWritable(dataDir, err))
	}
	if err := errors.Join(syncDir(below), syncDir(filepath.Dir(dir)), syncDir(dataDir)); err != nil {
		return "", fmt.Errorf("put the store aside: %w", notWritable(dataDir, err))
	}
	return path, nil
}

func (a Archived) name() string {
	s := fmt.Sprintf("%s-epoch%d", a.Time.UTC().Format(archiveTime), a.Epoch)
	if a.n > 0 {
		s += "." + strconv.Itoa(a.n)
	}
	return s
}

// parseArchive reads what name wrote.
func parseArchive(name string) (Archived, bool) {
	var a Archived
	when, rest, ok := strings.Cut(name, "-epoch")
	if !ok {
		return a, false
	}
	epoch, n, more := strings.Cut(rest, ".")
	e, errE := strconv.ParseUint(epoch, 10, 64)
	t, errT := time.Parse(archiveTime, when)
	var errN error
	if more {
		a.n, errN = strconv.Atoi(n)
	}
	a.Epoch, a.Time = eventlog.Epoch(e), t
	return a, errE == nil && errT == nil && errN == nil && a.name() == name
}

// Archives lists the stores that were put aside below dataDir, the newest last.
// A higher epoch is newer: clocks jump, epochs don't.
func Archives(dataDir string) ([]Archived, error) {
	entries, err := os.ReadDir(filepath.Join(dataDir, archiveDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the stores put aside: %w", err)
	}
	var out []Archived
	for _, e := range entries {
		if a, ok := parseArchive(e.Name()); ok && e.IsDir() {
			a.Path = filepath.Join(dataDir, archiveDir, e.Name())
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b Archived) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), a.Time.Compare(b.Time), cmp.Compare(a.n, b.n))
	})
	return out, nil
}

// PruneArchives deletes the oldest archives until at most MaxArchives of at most
// MaxArchiveBytes in sum are left, and returns what it deleted. It never deletes
// the newest. Call it when the orphans of the newest have been handed over.
func PruneArchives(dataDir string) ([]string, error) {
	if err := finishRemovals(dataDir); err != nil {
		return nil, err
	}
	all, err := Archives(dataDir)
	if err != nil {
		return nil, err
	}
	var removed []string
	var bytes int64
	for i := len(all) - 1; i >= 0; i-- {
		size, err := sizeOf(all[i].Path)
		if err != nil {
			return removed, fmt.Errorf("measure %s: %w", all[i].Path, err)
		}
		bytes += size
		kept := len(all) - i
		if kept == 1 || kept <= MaxArchives && bytes <= MaxArchiveBytes {
			continue
		}
		// Half an archive must not be taken for a whole one.
		half := all[i].Path + removing
		if err := errors.Join(os.Rename(all[i].Path, half), os.RemoveAll(half)); err != nil {
			return removed, fmt.Errorf("delete an old store: %w", notWritable(dataDir, err))
		}
		removed = append(removed, all[i].Path)
	}
	return removed, nil
}

// finishRemovals deletes what a removal that was broken off left.
func finishRemovals(dataDir string) error {
	halves, err := filepath.Glob(filepath.Join(dataDir, archiveDir, "*"+removing))
	if err != nil {
		return err
	}
	for _, h := range halves {
		if err := os.RemoveAll(h); err != nil {
			return fmt.Errorf("delete an old store: %w", notWritable(dataDir, err))
		}
	}
	return nil
}

// sizeOf is what the files below dir take, in bytes.
func sizeOf(dir string) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
