package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"

	"filippo.io/age"

	"dyad/eventlog"
	"dyad/eventlog/segment"
)

// Version is the version of the format that this release writes. It reads it
// and all before it.
const Version = 1

const (
	magic        = "dyad backup "
	manifestName = "manifest.json"
	stateName    = "node.state"
	segmentsDir  = "segments/"
	secretsDir   = "secrets/"
	// MaxSmall bounds every part but segments, in bytes.
	MaxSmall = 16 << 20
	// MaxSecrets bounds how many secrets there are.
	MaxSecrets = 1024
)

// Manifest says what a backup holds.
type Manifest struct {
	Version int            `json:"version"`
	Release string         `json:"release"` // of the dyad that wrote it
	Cluster string         `json:"cluster"`
	Node    string         `json:"node"`
	Mode    string         `json:"mode"` // of the node at that time
	Epoch   eventlog.Epoch `json:"epoch"`
	Head    eventlog.Head  `json:"head"` // the last event
	Time    time.Time      `json:"time"`
	// Newest is when the last event was recorded: the age of the backup's state.
	Newest time.Time `json:"newest"`
	Events int       `json:"events"`
	// Secrets tells whether the identity of the node is in it.
	Secrets bool   `json:"secrets"`
	Parts   []Part `json:"parts"`
}

// Part is one file in the archive.
type Part struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Writer writes a backup. Segments come first, in order, then Small parts, then
// Close. The first error of any call is final.
type Writer struct {
	m     Manifest
	lock  io.WriteCloser // encrypts; nil for a plain backup
	out   io.Writer
	sum   hash.Hash
	tar   *tar.Writer
	names map[string]bool
}

// NewWriter begins a backup of what m names; Version, Events, Head, Newest,
// Secrets and Parts follow from what is written. Without recipients it is plain,
// and takes no secrets.
func NewWriter(w io.Writer, m Manifest, recipients ...age.Recipient) (*Writer, error) {
	b := &Writer{m: m, sum: sha256.New(), names: map[string]bool{}}
	b.m.Version, b.m.Head, b.m.Events, b.m.Parts = Version, eventlog.Head{}, 0, nil
	out := w
	if len(recipients) > 0 {
		var err error
		if b.lock, err = age.Encrypt(w, recipients...); err != nil {
			return nil, fmt.Errorf("encrypt the backup: %w", err)
		}
		out = b.lock
	}
	b.out = out
	both := io.MultiWriter(out, b.sum)
	if _, err := fmt.Fprintf(both, "%s%d\n", magic, Version); err != nil {
		return nil, err
	}
	b.tar = tar.NewWriter(both)
	return b, nil
}

// Head is the end of the log as far as it was written.
func (b *Writer) Head() eventlog.Head { return b.m.Head }

// Segment adds the next segment, fully checked: it must follow the one before.
func (b *Writer) Segment(content []byte) error {
	var last time.Time
	h, err := segment.Scan(bytes.NewReader(content), func(e eventlog.Envelope, _ int64) error { last = e.Time; return nil })
	if err != nil {
		return fmt.Errorf("events from %d on: %w", b.m.Head.Seq+1, err)
	}
	if h.Prev != b.m.Head {
		return fmt.Errorf("%w: events %d–%d do not follow event %d", eventlog.ErrCorrupt, h.First, h.Last, b.m.Head.Seq)
	}
	if err := b.add(segmentsDir+segment.FileName(h.First), content); err != nil {
		return err
	}
	b.m.Head, b.m.Newest, b.m.Events = h.End, last, b.m.Events+int(h.Last-h.First)+1
	return nil
}

// State adds node.state.
func (b *Writer) State(content []byte) error { return b.add(stateName, content) }

// Secret adds a file by its path below the data directory. A plain backup
// refuses it.
func (b *Writer) Secret(name string, content []byte) error {
	if b.lock == nil {
		return errors.New("a backup that is not encrypted holds no secrets")
	}
	b.m.Secrets = true
	return b.add(secretsDir+name, content)
}

func (b *Writer) add(name string, content []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	if b.names[name] {
		return fmt.Errorf("%s is in the backup twice", name)
	}
	if !strings.HasPrefix(name, segmentsDir) && len(content) > MaxSmall {
		return fmt.Errorf("%s is larger than %d bytes", name, MaxSmall)
	}
	b.names[name] = true
	sum := sha256.Sum256(content)
	b.m.Parts = append(b.m.Parts, Part{Name: name, Bytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
	return b.entry(name, content)
}

func (b *Writer) entry(name string, content []byte) error {
	h := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: b.m.Time.Truncate(time.Second), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := b.tar.Write(content)
	return err
}

// checkName wants what this format has, and no path that leaves it.
func checkName(name string) error {
	rest, secret := strings.CutPrefix(name, secretsDir)
	seg, isSegment := strings.CutPrefix(name, segmentsDir)
	switch {
	case name == stateName, isSegment && path.Base(seg) == seg && strings.HasSuffix(seg, ".seg"):
		return nil
	case secret && rest != "" && path.Clean(rest) == rest && !path.IsAbs(rest) && rest != ".." && !strings.HasPrefix(rest, "../"):
		return nil
	}
	return fmt.Errorf("%w: a backup has no part %q", ErrDamaged, name)
}

// Close ends the backup and returns its manifest. The file below stays the
// caller's.
func (b *Writer) Close() (Manifest, error) {
	content, err := json.MarshalIndent(b.m, "", "  ")
	if err != nil {
		return b.m, fmt.Errorf("encode the manifest: %w", err)
	}
	if err := b.entry(manifestName, append(content, '\n')); err != nil {
		return b.m, err
	}
	if err := b.tar.Close(); err != nil {
		return b.m, err
	}
	if _, err := b.out.Write(b.sum.Sum(nil)); err != nil {
		return b.m, err
	}
	if b.lock != nil {
		return b.m, b.lock.Close()
	}
	return b.m, nil
}
