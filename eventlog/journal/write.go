package journal

import (
	"errors"
	"fmt"
	"os"

	"dyad/eventlog"
)

func originOf(c cursor) eventlog.Origin { return eventlog.Origin{Boot: c.Boot, N: c.N} }

// flush writes what is held. After a sync that failed the segment is given up:
// what the disk has of it is not known any more, so the same records go to a new
// one. They may then stand there twice; loading takes them once.
func (j *Journal) flush() error {
	if j.held == 0 {
		return nil
	}
	lines, tail, err := encodeRun(j.tail, j.pending[len(j.pending)-j.held:])
	if err == nil {
		err = j.write(lines)
	}
	if err != nil {
		return fmt.Errorf("%w: %d facts are kept in memory: %w; try: free some space in %s", ErrNotWritten, j.held, err, j.dir)
	}
	for i := len(j.pending) - j.held; i < len(j.pending); i++ {
		j.pending[i].file = j.files[len(j.files)-1].index
	}
	j.held, j.tail = 0, tail
	return nil
}

// encodeRun chains items behind tail.
func encodeRun(tail string, items []item) (lines []byte, last string, err error) {
	for _, it := range items {
		line, hash, err := record{Prev: tail, Fact: &it.fact}.encode()
		if err != nil {
			return nil, "", err
		}
		lines, tail = append(lines, line...), hash
	}
	return lines, tail, nil
}

// write adds lines to the active segment and syncs it.
func (j *Journal) write(lines []byte) error {
	if j.active != nil && j.size >= segmentBytes {
		if err := j.retire(); err != nil {
			return err
		}
	}
	if j.active == nil {
		if err := j.begin(); err != nil {
			return err
		}
	}
	if _, err := j.active.WriteAt(lines, j.size); err != nil {
		// Cut back, the segment is as it was. If it can't be cut, it is torn,
		// and Open copes with that.
		if bad := j.active.Truncate(j.size); bad != nil {
			err = errors.Join(err, bad, j.retire())
		}
		return err
	}
	if err := j.active.Sync(); err != nil {
		err = errors.Join(err, j.active.Truncate(j.size), j.retire())
		if last := len(j.files) - 1; j.size == 0 && os.Remove(j.path(segmentName(j.files[last].index))) == nil {
			j.files = j.files[:last] // or each attempt would leave an empty file
		}
		return err
	}
	j.size += int64(len(lines))
	return nil
}

// retire closes the active segment. The next write begins a new one.
func (j *Journal) retire() error {
	f := j.active
	if f == nil {
		return nil
	}
	j.active = nil
	return f.Close()
}

// begin starts a new segment.
func (j *Journal) begin() error {
	index := j.maxIndex + 1
	f, err := os.OpenFile(j.path(segmentName(index)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	j.maxIndex, j.active, j.size = index, f, 0
	j.files = append(j.files, file{index: index})
	if err := syncDir(j.dir); err != nil {
		return errors.Join(err, j.retire())
	}
	return nil
}

// discard deletes the segments that hold nothing that waits. What can't be
// deleted now is tried again next time.
func (j *Journal) discard() {
	oldest := j.maxIndex + 1
	for _, it := range j.pending {
		if it.file != 0 {
			oldest = it.file
			break
		}
	}
	for len(j.files) > 0 && j.files[0].index < oldest {
		f := j.files[0]
		if len(j.files) == 1 && j.active != nil {
			if err := j.retire(); err != nil {
				j.log.Warn("a copied segment did not close", "event", "journal.discard", "reason", err)
			}
		}
		if err := j.drop(f); err != nil {
			j.log.Warn("a copied segment could not be deleted", "event", "journal.discard", "reason", err)
			return
		}
		j.files = j.files[1:]
	}
}

// drop deletes a segment, or keeps a damaged one under another name.
func (j *Journal) drop(f file) error {
	path := j.path(segmentName(f.index))
	if f.damaged {
		return os.Rename(path, path+damagedSuffix)
	}
	return os.Remove(path)
}
