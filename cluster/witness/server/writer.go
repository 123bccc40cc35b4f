package server

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// run is the writer: it takes what waits as one batch.
func (s *Store) run() {
	for {
		select {
		case first := <-s.ops:
			batch := []op{first}
			for more := true; more && len(batch) < maxBatch; {
				select {
				case o := <-s.ops:
					batch = append(batch, o)
				default:
					more = false
				}
			}
			s.commit(batch)
		case <-s.stop:
			return
		}
	}
}

// commit decides a batch in order, writes what changed as one frame, syncs,
// publishes, and only then answers anybody: a no may depend on a yes before it.
func (s *Store) commit(batch []op) {
	changed := map[string]Record{}
	results := make([]result, len(batch))
	for i, o := range batch {
		results[i].r, results[i].err = s.decide(o, changed)
	}
	if err := s.save(changed); err != nil {
		for i := range results {
			results[i] = result{err: fmt.Errorf("%w (%w)", broken(), err)}
		}
	}
	for i, o := range batch {
		o.done <- results[i]
	}
}

// decide decides one change on what was held and what the batch has changed.
func (s *Store) decide(o op, changed map[string]Record) (Record, error) {
	stands, known := changed[o.cluster]
	if !known {
		stands, known = s.held[o.cluster] // only this goroutine writes it
	}
	switch {
	case known && stands.CA != o.ca:
		return Record{}, ErrOtherCA
	case !known && o.create && len(s.held)+fresh(s.held, changed) >= s.max:
		return Record{}, ErrFull
	}
	next, err := o.decide(stands, known)
	if err == nil && (!known || next != stands) {
		changed[o.cluster] = next
	}
	return next, err
}

// fresh counts the clusters of a batch that were not held before.
func fresh(held, changed map[string]Record) (n int) {
	for id := range changed {
		if _, ok := held[id]; !ok {
			n++
		}
	}
	return n
}

// save writes a batch. After an error nothing is ever written again.
func (s *Store) save(changed map[string]Record) error {
	select {
	case <-s.failed:
		return errors.New("since an earlier write")
	default:
	}
	if len(changed) == 0 {
		return nil
	}
	records := make([]Record, 0, len(changed))
	for _, id := range slices.Sorted(maps.Keys(changed)) {
		records = append(records, changed[id])
	}
	frame, err := encodeFrame(records)
	if err == nil {
		_, err = s.f.Write(frame)
	}
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		close(s.failed)
		return err
	}
	s.size += int64(len(frame))
	s.live += int64(len(frame) / len(records) * fresh(s.held, changed))
	s.mu.Lock()
	maps.Copy(s.held, changed)
	s.mu.Unlock()
	if s.size > max(compactAbove, compactFactor*s.live) {
		if err := s.rewrite(); err != nil {
			close(s.failed) // the batch is on disk; the next one may not be
		}
	}
	return nil
}

// rewrite replaces the file by one that holds every record once. Until the
// rename is durable the old file stands, with the same claims.
func (s *Store) rewrite() (err error) {
	path := filepath.Join(s.dir, claimsFile)
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("the claims can't be written: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("the claims can't be written: %w", errors.Join(err, f.Close()))
		}
	}()
	n, err := f.WriteString(header)
	if err != nil {
		return err
	}
	size := int64(n)
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(s.held)), maxBatch) {
		records := make([]Record, 0, len(ids))
		for _, id := range ids {
			records = append(records, s.held[id])
		}
		frame, err := encodeFrame(records)
		if err != nil {
			return err
		}
		if _, err := f.Write(frame); err != nil {
			return err
		}
		size += int64(len(frame))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return err
	}
	if s.f != nil {
		_ = s.f.Close() // replaced, and synced with every batch
	}
	s.f, s.size, s.live = f, size, size
	return nil
}
