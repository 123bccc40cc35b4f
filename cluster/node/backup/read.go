package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"

	"dyad/eventlog"
	"dyad/eventlog/segment"
)

// Errors of Open. Test with errors.Is.
var (
	// ErrDamaged: the file is not what was written, or not a backup.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNewer: a newer release wrote it.
	ErrNewer = errors.New("the backup was written by a newer release")
	// ErrLocked: it is encrypted, and what was given does not open it.
	ErrLocked = errors.New("the backup can't be opened")
)

const (
	ageMagic = "age-encryption.org/"
	// maxHead bounds the first line.
	maxHead = 64
)

// File is a backup that was read once and found whole.
type File struct {
	Manifest  Manifest
	Encrypted bool

	body *io.SectionReader // the archive
}

// Open reads and checks all of a backup: every byte, every event, and that the
// events follow each other up to the manifest's head. identities open an
// encrypted one. Errors: ErrDamaged, ErrNewer, ErrLocked, and the reader's.
func Open(r io.ReaderAt, size int64, identities ...age.Identity) (*File, error) {
	f := &File{}
	head := make([]byte, min(size, maxHead))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if bytes.HasPrefix(head, []byte(ageMagic)) {
		var err error
		if r, size, err = unlock(r, size, identities); err != nil {
			return nil, err
		}
		f.Encrypted = true
		head = make([]byte, min(size, maxHead))
		if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, damaged(err)
		}
	}
	start, err := headOf(head)
	if err != nil {
		return nil, err
	}
	end := size - sha256.Size
	if end < start {
		return nil, fmt.Errorf("%w: it ends in the middle", ErrDamaged)
	}
	if err := checkSum(r, end); err != nil {
		return nil, err
	}
	f.body = io.NewSectionReader(r, start, end-start)
	return f, f.check()
}

func damaged(err error) error {
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func unlock(r io.ReaderAt, size int64, identities []age.Identity) (io.ReaderAt, int64, error) {
	if len(identities) == 0 {
		return nil, 0, fmt.Errorf("%w: it is encrypted, and neither passphrase nor key was given", ErrLocked)
	}
	plain, n, err := age.DecryptReaderAt(r, size, identities...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, 0, fmt.Errorf("%w: the passphrase or key is not the one it was encrypted with, or its first bytes are damaged", ErrLocked)
	case err != nil:
		return nil, 0, damaged(err)
	}
	return plain, n, nil
}

// headOf reads the first line, and tells where the archive begins.
func headOf(b []byte) (int64, error) {
	line, _, ok := bytes.Cut(b, []byte("\n"))
	text, is := strings.CutPrefix(string(line), magic)
	n, err := strconv.Atoi(text)
	switch {
	case !ok || !is || err != nil || n < 1 || strconv.Itoa(n) != text:
		return 0, fmt.Errorf("%w, or the file is no backup of dyad", ErrDamaged)
	case n > Version:
		return 0, fmt.Errorf("%w: it has version %d, this release reads up to %d; try: install the newest dyad", ErrNewer, n, Version)
	}
	return int64(len(line)) + 1, nil
}

func checkSum(r io.ReaderAt, end int64) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, end)); err != nil {
		return damaged(err)
	}
	want := make([]byte, sha256.Size)
	if _, err := r.ReadAt(want, end); err != nil && !errors.Is(err, io.EOF) {
		return damaged(err)
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return fmt.Errorf("%w: its content does not hash to what its end says; it was changed or cut", ErrDamaged)
	}
	return nil
}

// check reads all parts against the manifest.
func (f *File) check() error {
	var parts []Part
	var at eventlog.Head
	events, secrets := 0, 0
	err := f.walk(func(name string, content []byte) error {
		if name == manifestName {
			return json.Unmarshal(content, &f.Manifest)
		}
		if f.Manifest.Version != 0 {
			return errors.New("the manifest is not the last part")
		}
		sum := sha256.Sum256(content)
		parts = append(parts, Part{name, int64(len(content)), hex.EncodeToString(sum[:])})
		if strings.HasPrefix(name, secretsDir) {
			secrets++
			return nil
		}
		if !strings.HasPrefix(name, segmentsDir) {
			return nil
		}
		h, err := segment.Scan(bytes.NewReader(content), nil)
		if err == nil && (h.Prev != at || name != segmentsDir+segment.FileName(h.First)) {
			err = fmt.Errorf("%s does not follow event %d", name, at.Seq)
		}
		at, events = h.End, events+int(h.Last-h.First)+1
		return err
	})
	m := f.Manifest
	switch {
	case err != nil:
		return damaged(err)
	case m.Version < 1 || m.Version > Version:
		return fmt.Errorf("%w: it has no manifest that makes sense", ErrDamaged)
	case !slices.Equal(parts, m.Parts):
		return fmt.Errorf("%w: its parts are not those of its manifest", ErrDamaged)
	case m.Head != at || m.Events != events || m.Epoch < at.Epoch:
		return fmt.Errorf("%w: its events end with %d, and its manifest says %d", ErrDamaged, at.Seq, m.Head.Seq)
	case m.Secrets != (secrets > 0) || secrets > MaxSecrets || secrets > 0 && !f.Encrypted:
		return fmt.Errorf("%w: its secrets are not those of its manifest", ErrDamaged)
	}
	return nil
}

// walk hands over every part with its content.
func (f *File) walk(each func(name string, content []byte) error) error {
	in := tar.NewReader(io.NewSectionReader(f.body, 0, f.body.Size()))
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		bound := int64(MaxSmall)
		if strings.HasPrefix(h.Name, segmentsDir) {
			bound = segment.MaxBytes
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > bound {
			return fmt.Errorf("part %q has %d bytes, at most %d", h.Name, h.Size, bound)
		}
		if h.Name != manifestName {
			if err := checkName(h.Name); err != nil {
				return err
			}
		}
		content, err := io.ReadAll(io.LimitReader(in, bound))
		if err != nil {
			return err
		}
		if err := each(h.Name, content); err != nil {
			return err
		}
	}
}

// Segments hands over every segment, in order.
func (f *File) Segments(each func(h segment.Header, content []byte) error) error {
	return f.walk(func(name string, content []byte) error {
		if !strings.HasPrefix(name, segmentsDir) {
			return nil
		}
		h, err := segment.Scan(bytes.NewReader(content), nil)
		if err != nil {
			return damaged(err)
		}
		return each(h, content)
	})
}

// Secrets hands over every secret, by its path below the data directory.
func (f *File) Secrets(each func(name string, content []byte) error) error {
	return f.walk(func(name string, content []byte) error {
		if rest, ok := strings.CutPrefix(name, secretsDir); ok {
			return each(rest, content)
		}
		return nil
	})
}
