package eventlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// hashLen is the length of a SHA-256 in hex.
const hashLen = 2 * sha256.Size

// Seal gives a draft its place behind head and chains it there. now is the time
// of recording. The returned envelope's Hash is set, and so are its stored
// bytes.
//
// Invariant: Seal returns exactly what [Decode] reads from the stored bytes, so
// what an append answers never differs from what a reader sees later (raw JSON
// is compacted, invalid UTF-8 replaced).
func Seal(head Head, epoch Epoch, streamRev uint64, now time.Time, d Draft) (Envelope, error) {
	e := Envelope{
		Seq: head.Seq + 1, Epoch: epoch, StreamRev: streamRev,
		Time: now.UTC().Round(0), Draft: d, PrevHash: head.Hash,
	}
	if e.Version == 0 {
		e.Version = 1
	}
	if !e.ObservedAt.IsZero() {
		e.ObservedAt = e.ObservedAt.UTC().Round(0)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return Envelope{}, fmt.Errorf("%w: encode %s for %s: %w", ErrCorrupt, d.Type, d.Stream, err)
	}
	sum := sha256.Sum256(body)
	sealed, same := asWritten(e, body)
	if !same {
		if err := json.Unmarshal(body, &sealed); err != nil {
			return Envelope{}, fmt.Errorf("%w: %s for %s can't be read back: %w", ErrCorrupt, d.Type, d.Stream, err)
		}
	}
	sealed.Hash = hex.EncodeToString(sum[:])
	sealed.stored = append(append(make([]byte, 0, hashLen+1+len(body)), sealed.Hash...), ' ')
	sealed.stored = append(sealed.stored, body...)
	return sealed, nil
}

// asWritten returns e if it reads back from body as it is, and otherwise nothing: a
// shorter way to what decoding gives, for what nearly every event is like.
//
// JSON writes two things otherwise than they stand: invalid UTF-8, which leaves
// \ufffd in the body, and raw JSON with white space or characters of HTML in it,
// which then is not found under its name. That can't be mistaken: in the body white
// space is in strings only, where quotes have a backslash before them.
func asWritten(e Envelope, body []byte) (Envelope, bool) {
	if e.Repeats != nil || e.Source.Address.Zone() != "" || bytes.Contains(body, []byte(`\ufffd`)) {
		return Envelope{}, false
	}
	for _, raw := range []struct {
		name  string
		value *json.RawMessage
	}{{`"data":`, &e.Data}, {`"prev":`, &e.Prev}, {`"evidence":`, &e.Evidence}} {
		switch v := *raw.value; {
		case v == nil:
		case len(v) == 0 || !bytes.Contains(body, append([]byte(raw.name), v...)):
			return Envelope{}, false
		default:
			*raw.value = bytes.Clone(v)
		}
	}
	if e.Origin != nil {
		origin := *e.Origin
		e.Origin = &origin
	}
	return e, true
}

// Encode returns the stored form: the SHA-256 of the body in hex, a space, and
// the body in JSON. Everything can be checked with sha256sum and a text tool.
// An envelope that was decoded gives back the bytes it was decoded from, so a
// field that only a newer release knows is never lost.
func Encode(e Envelope) ([]byte, error) {
	if e.stored == nil {
		return nil, errors.New("the envelope was not sealed or decoded")
	}
	return bytes.Clone(e.stored), nil
}

// StoredAs tells whether b is the stored form of e. It hashes nothing.
func StoredAs(e Envelope, b []byte) bool { return e.stored != nil && bytes.Equal(e.stored, b) }

// Decode reads the stored form and checks the hash of the body. Unknown fields
// and unknown types are kept. It does not check the chain; see [Verify].
func Decode(b []byte) (Envelope, error) {
	if len(b) < hashLen+2 || b[hashLen] != ' ' {
		return Envelope{}, fmt.Errorf("%w: %d bytes, no hash in front", ErrCorrupt, len(b))
	}
	want, body := string(b[:hashLen]), b[hashLen+1:]
	sum := sha256.Sum256(body)
	if got := hex.EncodeToString(sum[:]); got != want {
		return Envelope{}, fmt.Errorf("%w: body hashes to %s, stored hash is %s", ErrCorrupt, got, want)
	}
	var e Envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if e.Seq == 0 {
		return Envelope{}, fmt.Errorf("%w: the body names no place in the log", ErrCorrupt)
	}
	e.Hash, e.stored = want, bytes.Clone(b)
	return e, nil
}

// Verify checks that next follows head: contiguous, chained, and of an epoch
// that does not go back.
func Verify(head Head, next Envelope) error {
	switch {
	case next.Seq != head.Seq+1:
		return fmt.Errorf("%w: event %d follows %d", ErrGap, next.Seq, head.Seq)
	case next.PrevHash != head.Hash:
		return fmt.Errorf("%w: event %d names %.12s as the hash before it, which is %.12s",
			ErrCorrupt, next.Seq, next.PrevHash, head.Hash)
	case next.Epoch < head.Epoch:
		return fmt.Errorf("%w: event %d has epoch %d after epoch %d", ErrCorrupt, next.Seq, next.Epoch, head.Epoch)
	}
	return nil
}

// HeadOf is the head of a log that ends with e.
func HeadOf(e Envelope) Head { return Head{Seq: e.Seq, Hash: e.Hash, Epoch: e.Epoch} }

// MarshalJSON shows the envelope with its hash. It is the public form (API,
// -o json), not the stored one; see [Encode].
func (e Public) MarshalJSON() ([]byte, error) {
	type plain Envelope
	return json.Marshal(struct {
		plain
		Hash string `json:"hash"`
	}{plain(e), e.Hash})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Public) UnmarshalJSON(b []byte) error {
	type plain Envelope
	var v struct {
		plain
		Hash string `json:"hash"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*e = Public(v.plain)
	e.Hash = v.Hash
	return nil
}

// Public is an [Envelope] as it is shown to users: with the hash in the JSON.
type Public Envelope
