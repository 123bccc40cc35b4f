package segment

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"dyad/eventlog"
)

// Version is the version of the format that this release writes. It reads it
// and all before it.
const Version = 1

// Where a segment ends.
const (
	// Events is how many events a segment holds.
	Events = eventlog.MaxPage
	// CutBytes ends a segment early: with the event that reaches it.
	CutBytes = 32 << 20
	// MaxBytes bounds a file: the last event may be as large as a batch.
	MaxBytes = CutBytes + eventlog.MaxBatchBytes + 2*maxLine
	// maxLine bounds the header and the trailer.
	maxLine = 4096
)

// ErrNewer: a newer release wrote the file.
var ErrNewer = errors.New("the file was written by a newer release")

// Header is the first line of a segment.
type Header struct {
	Version int `json:"dyad_segment"`
	// Cluster is the ID of the cluster that sealed it first.
	Cluster string       `json:"cluster"`
	First   eventlog.Seq `json:"first"`
	Last    eventlog.Seq `json:"last"`
	// Prev is the head before First, End the head with Last.
	Prev eventlog.Head `json:"prev"`
	End  eventlog.Head `json:"end"`
}

type trailer struct {
	Count  int    `json:"count"`
	SHA256 string `json:"sha256"`
}

// check tells what can't be about a header.
func (h Header) check() error {
	switch {
	case h.Version > Version:
		return fmt.Errorf("%w: it has version %d, this release reads up to %d; install the newest dyad", ErrNewer, h.Version, Version)
	case h.Version < 1, h.First == 0, h.Last < h.First, h.Last-h.First >= Events,
		h.Prev.Seq != h.First-1, h.End.Seq != h.Last, h.End.Epoch < h.Prev.Epoch, h.Prev.Seq == 0 && h.Prev.Hash != "":
		return fmt.Errorf("%w: the header makes no sense: events %d–%d after %d", eventlog.ErrCorrupt, h.First, h.Last, h.Prev.Seq)
	}
	return nil
}

// Cut tells how many events of run make the next whole segment of so many
// events (1–Events); 0 if run does not fill one. It looks at the events alone:
// the same log is cut at the same places everywhere.
func Cut(run []eventlog.Envelope, events int) int {
	bytes := 0
	for i, e := range run {
		b, err := eventlog.Encode(e)
		if err != nil {
			return 0 // Marshal says why
		}
		if bytes += len(b) + 1; i+1 == events || bytes >= CutBytes {
			return i + 1
		}
	}
	return 0
}

// Marshal seals run, which follows prev, into the bytes of a segment. Errors:
// ErrCorrupt and ErrGap if it does not follow, ErrTooLarge for too many events.
func Marshal(cluster string, prev eventlog.Head, run []eventlog.Envelope) ([]byte, Header, error) {
	h := Header{Version: Version, Cluster: cluster, First: prev.Seq + 1, Prev: prev}
	if len(run) == 0 || len(run) > Events {
		return nil, h, fmt.Errorf("%w: a segment holds 1 to %d events, not %d", eventlog.ErrTooLarge, Events, len(run))
	}
	end, err := eventlog.VerifyRun(prev, run)
	if err != nil {
		return nil, h, err
	}
	h.Last, h.End = end.Seq, end
	var b bytes.Buffer
	if err := line(&b, h); err != nil {
		return nil, h, err
	}
	for _, e := range run {
		stored, err := eventlog.Encode(e)
		if err != nil {
			return nil, h, err
		}
		if bytes.IndexByte(stored, '\n') >= 0 {
			// JSON in its stored form has none; whoever wrote one was not us.
			return nil, h, fmt.Errorf("%w: event %d has a line break in its stored form", eventlog.ErrCorrupt, e.Seq)
		}
		b.Write(stored)
		b.WriteByte('\n')
	}
	sum := sha256.Sum256(b.Bytes())
	err = line(&b, trailer{Count: len(run), SHA256: hex.EncodeToString(sum[:])})
	return b.Bytes(), h, err
}

func line(b *bytes.Buffer, v any) error {
	out, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of a segment: %w", err)
	}
	b.Write(append(out, '\n'))
	return nil
}

// Fault is damage in a segment: where, and what. It is ErrCorrupt, or ErrNewer.
type Fault struct {
	Line int // from 1; 0: the file as a whole
	Why  error
}

func (f *Fault) Error() string {
	if f.Line == 0 {
		return f.Why.Error()
	}
	return fmt.Sprintf("line %d: %v", f.Line, f.Why)
}

// Unwrap makes errors.Is see the reason.
func (f *Fault) Unwrap() error { return f.Why }

func faultf(at int, format string, args ...any) error {
	return &Fault{Line: at, Why: fmt.Errorf("%w: "+format, append([]any{eventlog.ErrCorrupt}, args...)...)}
}

// reader reads a segment line by line and checks everything it can.
type reader struct {
	in   *bufio.Reader
	sum  hash.Hash
	line int // lines read
	read int64
}

func newReader(r io.Reader) *reader {
	return &reader{in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
}

// next is the next line without its end; io.EOF after the last.
func (r *reader) next(bound int) ([]byte, error) {
	var out []byte
	for {
		part, err := r.in.ReadSlice('\n')
		if out = append(out, part...); len(out) > bound {
			return nil, faultf(r.line+1, "it is longer than %d bytes", bound)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(out) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, faultf(r.line+1, "the file ends in the middle of it")
		case err != nil:
			return nil, err
		}
		r.line, r.read = r.line+1, r.read+int64(len(out))
		return out[:len(out)-1], nil
	}
}

// exact decodes a line that must be what this release would write for it: no
// other spelling of the same passes, so no changed byte does.
func exact(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", eventlog.ErrCorrupt, err)
	}
	again, err := json.Marshal(v)
	if err == nil && !bytes.Equal(again, b) {
		err = fmt.Errorf("%w: it is not in the form it was written in", eventlog.ErrCorrupt)
	}
	return err
}

// header reads the first line.
func (r *reader) header() (Header, error) {
	var h Header
	b, err := r.next(maxLine)
	if err == io.EOF {
		return h, faultf(0, "the file is empty")
	}
	if err != nil {
		return h, err
	}
	var v struct {
		Version int `json:"dyad_segment"`
	}
	if json.Unmarshal(b, &v) == nil && v.Version > Version {
		return h, &Fault{Line: 1, Why: Header{Version: v.Version}.check()}
	}
	if err := exact(b, &h); err != nil {
		return h, &Fault{Line: 1, Why: err}
	}
	if err := h.check(); err != nil {
		return h, &Fault{Line: 1, Why: err}
	}
	r.add(b)
	return h, nil
}

func (r *reader) add(b []byte) {
	r.sum.Write(b)
	r.sum.Write([]byte{'\n'})
}

// Scan reads a whole segment, checks every byte of it, and hands each event and
// its place in the file to each, if given. Errors are *[Fault], the reader's,
// and those of each.
func Scan(in io.Reader, each func(e eventlog.Envelope, offset int64) error) (Header, error) {
	r := newReader(in)
	h, err := r.header()
	if err != nil {
		return h, err
	}
	at := h.Prev
	for at.Seq < h.Last {
		offset := r.read
		b, err := r.next(MaxBytes)
		if err == io.EOF {
			return h, faultf(0, "the file ends after event %d, and should with %d", at.Seq, h.Last)
		}
		if err != nil {
			return h, err
		}
		r.add(b)
		e, err := eventlog.Decode(b)
		if err == nil {
			err = eventlog.Verify(at, e)
		}
		if err != nil {
			if errors.Is(err, eventlog.ErrGap) {
				err = fmt.Errorf("%w: %w", eventlog.ErrCorrupt, err)
			}
			return h, &Fault{Line: r.line, Why: err}
		}
		at = eventlog.HeadOf(e)
		if each != nil {
			if err := each(e, offset); err != nil {
				return h, err
			}
		}
	}
	if at != h.End {
		return h, faultf(1, "the header names another last event than the file has")
	}
	return h, r.trailer(h)
}

func (r *reader) trailer(h Header) error {
	want := hex.EncodeToString(r.sum.Sum(nil))
	b, err := r.next(maxLine)
	if err == io.EOF {
		return faultf(0, "the last line, with the hash of the file, is missing")
	}
	if err != nil {
		return err
	}
	var t trailer
	if err := exact(b, &t); err != nil {
		return &Fault{Line: r.line, Why: err}
	}
	if t.Count != int(h.Last-h.First)+1 || t.SHA256 != want {
		return faultf(r.line, "the file hashes to %.12s, it names %.12s", want, t.SHA256)
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return faultf(r.line+1, "something follows the last line")
	}
	return nil
}
