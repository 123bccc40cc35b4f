package segment

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"dyad/eventlog"
)

// Names in the directory.
const (
	suffix      = ".seg"
	asideSuffix = ".aside"
	tempSuffix  = ".tmp"
	// indexEvery is how many events lie between two remembered places in a file.
	indexEvery = 64
)

// FileName is the name of the segment that begins with event first.
func FileName(first eventlog.Seq) string { return fmt.Sprintf("%016x%s", uint64(first), suffix) }

// DamageError is a segment that can't be read as it was written. It is
// ErrCorrupt.
type DamageError struct {
	File  string
	First eventlog.Seq // 0 if the header can't be read
	Why   error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("segment %s is damaged: %v\n  try: dyad log verify; a damaged segment is replaced by the other node's copy", e.File, e.Why)
}

// Unwrap makes errors.Is see the reason.
func (e *DamageError) Unwrap() error { return e.Why }

// Info is one segment on disk.
type Info struct {
	Header
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`           // as the file names it
	Damage string `json:"damage,omitempty"` // why it can't be used
}

// entry is a segment in the store's list.
type entry struct {
	Info
	damage error
	// index holds the place of every indexEvery-th event, once every byte of the
	// file was checked; nil before.
	index []int64
}

// Store is the directory of a node's segments. Its methods may be called by
// several goroutines; one process owns the directory.
type Store struct {
	dir string
	// point is called before each step that changes the directory; an error
	// stops there, as a crash would. Set by tests.
	point func(string) error

	writing sync.Mutex // held by whoever changes the directory

	mu   sync.Mutex
	list []*entry // sorted by First; damaged ones too
	news chan struct{}
}

// Open reads the directory, making it if there is none. Headers and trailers
// are read now, events when they are asked for. A damaged file does not keep the
// store from opening: it is in List, and what needs it fails with *DamageError.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the segments: %w\n  try: make %s writable", err, dir)
	}
	s, err := Look(dir)
	if err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"+suffix+tempSuffix))
	for _, name := range left {
		// An attempt that a crash broke off. What it held is in the log.
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return nil, fmt.Errorf("open the segments: %w", err)
	}
	return s, nil
}

// Look opens the directory of a store that another process may own, to read
// only. No directory is a store without segments.
func Look(dir string) (*Store, error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the segments: %w", err)
	}
	s := &Store{dir: dir, point: func(string) error { return nil }, news: make(chan struct{})}
	for _, d := range names {
		first, ok := firstOf(d.Name())
		if !ok {
			continue
		}
		s.list = append(s.list, s.look(first))
	}
	slices.SortFunc(s.list, func(a, b *entry) int { return compare(a.First, b.First) })
	return s, nil
}

func compare(a, b eventlog.Seq) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func firstOf(name string) (eventlog.Seq, bool) {
	hex, ok := strings.CutSuffix(name, suffix)
	n, err := strconv.ParseUint(hex, 16, 64)
	return eventlog.Seq(n), ok && err == nil && n > 0 && name == FileName(eventlog.Seq(n))
}

// look reads the two ends of a file.
func (s *Store) look(first eventlog.Seq) *entry {
	e := &entry{Info: Info{Header: Header{First: first}, File: FileName(first)}}
	fail := func(err error) *entry {
		e.damage = &DamageError{File: e.File, First: first, Why: err}
		e.Damage = err.Error()
		return e
	}
	f, err := os.Open(filepath.Join(s.dir, e.File))
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	e.Bytes = st.Size()
	h, err := newReader(f).header()
	if err != nil {
		return fail(err)
	}
	if h.First != first {
		return fail(faultf(1, "it says that it begins with event %d", h.First))
	}
	e.Header = h
	t, err := tailOf(f, st.Size())
	if err != nil {
		return fail(err)
	}
	if e.SHA256 = t.SHA256; t.Count != int(h.Last-h.First)+1 {
		return fail(faultf(0, "its last line counts %d events, its first %d", t.Count, h.Last-h.First+1))
	}
	return e
}

// tailOf reads the last line of a file.
func tailOf(f io.ReaderAt, size int64) (trailer, error) {
	var t trailer
	b := make([]byte, min(size, maxLine))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil {
		return t, err
	}
	b, ok := bytes.CutSuffix(b, []byte("\n"))
	if !ok {
		return t, faultf(0, "the file ends in the middle of a line")
	}
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		b = b[i+1:]
	}
	if err := json.Unmarshal(b, &t); err != nil || t.SHA256 == "" {
		return t, faultf(0, "the last line, with the hash of the file, is missing")
	}
	return t, nil
}

// List lists the segments, oldest first, damaged ones too.
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Info, len(s.list))
	for i, e := range s.list {
		out[i] = e.Info
	}
	return out
}

// End is the last event up to which the segments have everything from the
// start; the zero Head if event 1 is missing. What lies behind a hole or a
// damaged segment does not count.
func (s *Store) End() eventlog.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end()
}

func (s *Store) end() (at eventlog.Head) {
	for _, e := range s.list {
		if e.damage != nil || e.Prev != at {
			break
		}
		at = e.End
	}
	return at
}

// EndAt is the head at the end of the segment that ends with the given event;
// ok is false if the unbroken run from the start has no such end.
func (s *Store) EndAt(last eventlog.Seq) (h eventlog.Head, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.list {
		if e.damage != nil || e.Prev != h {
			return eventlog.Head{}, false
		}
		if h = e.End; h.Seq == last {
			return h, true
		}
	}
	return eventlog.Head{}, false
}

// Changed is closed when a segment comes, goes, or is found damaged.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.news
}

func (s *Store) pulse() {
	close(s.news)
	s.news = make(chan struct{})
}

// Seal writes the next segment: run must follow End. A crash leaves the segment
// whole or not at all. Errors: those of [Marshal], and the file system's.
func (s *Store) Seal(cluster string, run []eventlog.Envelope) (Header, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	b, h, err := Marshal(cluster, s.End(), run)
	if err != nil {
		return h, err
	}
	return h, s.install(h.First, b)
}

// Add takes a segment from another node: every byte is checked, and it must fit
// what is here: follow End, or fill a hole between segments. It replaces a
// damaged one. The error is *Fault for a damaged copy, ErrGap for one that is
// not missing here, and ErrCorrupt for one of another history.
func (s *Store) Add(b []byte) (Header, error) {
	h, err := Scan(bytes.NewReader(b), nil)
	if err != nil {
		return h, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if end := s.End(); h.First != end.Seq+1 {
		return h, fmt.Errorf("%w: the segment with events %d–%d does not follow event %d", eventlog.ErrGap, h.First, h.Last, end.Seq)
	} else if h.Prev != end {
		return h, fmt.Errorf("%w: the segment that begins with event %d is of another history", eventlog.ErrCorrupt, h.First)
	}
	return h, s.install(h.First, b)
}

// install puts a file in its place: written beside, synced, renamed, and the
// directory synced. s.writing is held.
func (s *Store) install(first eventlog.Seq, b []byte) error {
	path := filepath.Join(s.dir, FileName(first))
	if err := s.replace(path, b); err != nil {
		return fmt.Errorf("write segment %s: %w\n  try: free some space in %s", FileName(first), err, s.dir)
	}
	e := s.look(first)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(o *entry) bool { return o.First == first })
	i, _ := slices.BinarySearchFunc(s.list, first, func(o *entry, f eventlog.Seq) int { return compare(o.First, f) })
	s.list = slices.Insert(s.list, i, e)
	s.pulse()
	return e.damage
}

func (s *Store) replace(path string, b []byte) (err error) {
	if err := s.point("create"); err != nil {
		return err
	}
	temp := path + tempSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = s.fill(f, b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.point("rename")
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = s.point("sync directory")
	}
	if err != nil {
		return err // what lies beside is removed by the next start
	}
	return syncDir(s.dir)
}

func (s *Store) fill(f *os.File, b []byte) error {
	half := len(b) / 2
	if _, err := f.Write(b[:half]); err != nil {
		return err
	}
	if err := s.point("write"); err != nil {
		return err
	}
	if _, err := f.Write(b[half:]); err != nil {
		return err
	}
	if err := s.point("sync"); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SetAside takes a segment out of the store: damaged, or of another history. The
// file stays under another name for whoever wants to look at it. One that is not
// there is fine.
func (s *Store) SetAside(first eventlog.Seq) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	path := filepath.Join(s.dir, FileName(first))
	if err := s.point("set aside"); err != nil {
		return err
	}
	if err := os.Rename(path, path+asideSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set segment %s aside: %w", FileName(first), err)
	}
	s.mu.Lock()
	s.list = slices.DeleteFunc(s.list, func(o *entry) bool { return o.First == first })
	s.pulse()
	s.mu.Unlock()
	return syncDir(s.dir)
}
