package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"dyad/eventlog"
)

// hashLen is the length of a SHA-256 in hex.
const hashLen = 2 * sha256.Size

// record is one line of a segment.
type record struct {
	Prev string `json:"prev"` // the hash of the record before it
	// Base begins a segment that replaces all before it: what they held and was
	// not copied follows here, coalesced.
	Base bool            `json:"base,omitempty"`
	Fact *eventlog.Draft `json:"fact,omitempty"`

	hash   string
	offset int64 // of the line in its file
}

// encode writes r as a line, and returns its hash too.
func (r record) encode() (line []byte, hash string, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, "", fmt.Errorf("encode a fact: %w", err)
	}
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	line = append(make([]byte, 0, hashLen+len(body)+2), hash...)
	line = append(append(append(line, ' '), body...), '\n')
	return line, hash, nil
}

// decode reads a line without its newline.
func decode(line []byte) (record, error) {
	var r record
	if len(line) < hashLen+1 || line[hashLen] != ' ' {
		return r, errors.New("no hash in front")
	}
	body := line[hashLen+1:]
	sum := sha256.Sum256(body)
	r.hash = string(line[:hashLen])
	if r.hash != hex.EncodeToString(sum[:]) {
		return r, errors.New("the hash does not fit")
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, err
	}
	if f := r.Fact; !r.Base && (f == nil || f.Origin == nil || f.Origin.Boot == "" || f.Origin.N == 0) {
		return r, errors.New("it holds no fact with an origin")
	}
	return r, nil
}

// scan is what a segment holds.
type scan struct {
	records []record
	// whole is where the last whole record ends. What follows was torn.
	whole int64
	// bad are the places before whole where bytes are no record.
	bad []badPlace
}

type badPlace struct {
	offset int64
	why    error
}

// scanSegment reads a whole segment. It never fails: what is no record is
// either a torn end or a bad place.
func scanSegment(b []byte) scan {
	var s scan
	var open *badPlace // since the last whole record
	for offset := int64(0); offset < int64(len(b)); {
		rest := b[offset:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		r, err := decode(rest[:end])
		switch {
		case err == nil:
			if open != nil {
				s.bad, open = append(s.bad, *open), nil
			}
			r.offset = offset
			s.records = append(s.records, r)
			s.whole = offset + int64(end) + 1
		case open == nil:
			open = &badPlace{offset, err}
		}
		offset += int64(end) + 1
	}
	return s
}

// DamageError says where a journal is broken.
type DamageError struct {
	File   string
	Offset int64 // bytes from its start
	Why    error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the journal is damaged: %s at byte %d: %v; the facts around it are kept; try: keep the file for inspection, and check the disk",
		e.File, e.Offset, e.Why)
}

func (e *DamageError) Unwrap() error { return e.Why }
