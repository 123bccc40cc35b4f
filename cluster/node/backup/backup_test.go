package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"dyad/eventlog"
	"dyad/eventlog/segment"
)

var taken = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// segments makes n segments of each events.
func segments(t testing.TB, n, each int) (out [][]byte, head eventlog.Head) {
	t.Helper()
	for range n {
		prev := head
		var run []eventlog.Envelope
		for i := range each {
			e, err := eventlog.Seal(head, 2, uint64(head.Seq+1), taken, eventlog.Draft{ID: fmt.Sprint(i), Type: eventlog.TypeStoreUp, Stream: "s"})
			if err != nil {
				t.Fatal(err)
			}
			run, head = append(run, e), eventlog.HeadOf(e)
		}
		b, _, err := segment.Marshal("c-1", prev, run)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out, head
}

func write(t testing.TB, secrets bool, recipients ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, Manifest{Release: "v1", Cluster: "c-1", Node: "node-a", Mode: "PAIR", Epoch: 2, Time: taken}, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	segs, _ := segments(t, 2, 2)
	for _, s := range segs {
		if err := w.Segment(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.State([]byte(`{"node":"node-a"}`)); err != nil {
		t.Fatal(err)
	}
	if secrets {
		for _, n := range []string{"cluster.key", "pki/ca.pem"} {
			if err := w.Secret(n, []byte("secret of "+n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(b []byte, ids ...age.Identity) (*File, error) {
	return Open(bytes.NewReader(b), int64(len(b)), ids...)
}

func key(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRoundTrip(t *testing.T) {
	id := key(t)
	for name, c := range map[string]struct {
		secrets    bool
		recipients []age.Recipient
	}{
		"plain": {}, "encrypted": {true, []age.Recipient{id.Recipient()}}, "encrypted without secrets": {false, []age.Recipient{id.Recipient()}},
	} {
		t.Run(name, func(t *testing.T) {
			b := write(t, c.secrets, c.recipients...)
			f, err := open(b, id)
			if err != nil {
				t.Fatal(err)
			}
			_, head := segments(t, 2, 2)
			m := f.Manifest
			if m.Head != head || m.Events != 4 || m.Secrets != c.secrets || f.Encrypted != (c.recipients != nil) || !m.Newest.Equal(taken) || m.Node != "node-a" {
				t.Errorf("%+v", m)
			}
			var seqs []string
			if err := f.Segments(func(h segment.Header, _ []byte) error {
				seqs = append(seqs, fmt.Sprintf("%d-%d", h.First, h.Last))
				return nil
			}); err != nil || strings.Join(seqs, " ") != "1-2 3-4" {
				t.Error(seqs, err)
			}
			secrets := map[string]string{}
			if err := f.Secrets(func(n string, b []byte) error { secrets[n] = string(b); return nil }); err != nil {
				t.Fatal(err)
			}
			if c.secrets && secrets["pki/ca.pem"] != "secret of pki/ca.pem" || len(secrets) != map[bool]int{true: 2}[c.secrets] {
				t.Error(secrets)
			}
			if bytes.Contains(b, []byte("secret of")) {
				t.Error("a secret is in the file for all to read")
			}
		})
	}
}

// No changed byte, no cut and nothing behind the end passes.
func TestEveryByteCounts(t *testing.T) {
	id := key(t)
	for name, b := range map[string][]byte{"plain": write(t, false), "encrypted": write(t, true, id.Recipient())} {
		t.Run(name, func(t *testing.T) {
			refused := func(what string, b []byte) {
				t.Helper()
				if f, err := open(b, id); err == nil {
					t.Fatalf("%s passed: %+v", what, f.Manifest)
				} else if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrLocked) {
					t.Fatalf("%s: %v", what, err)
				}
			}
			for i := range b {
				bad := bytes.Clone(b)
				bad[i] ^= 1
				refused(fmt.Sprintf("byte %d of %d", i, len(b)), bad)
				if i%7 == 0 {
					refused(fmt.Sprintf("cut at %d", i), b[:i])
				}
			}
			refused("a byte more", append(bytes.Clone(b), 0))
			refused("nothing", nil)
		})
	}
}

func TestLocks(t *testing.T) {
	r, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	b := write(t, true, r)
	for pass, want := range map[string]error{"correct horse": nil, "correct hors": ErrLocked} {
		id, err := age.NewScryptIdentity(pass)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(b, id); !errors.Is(err, want) {
			t.Errorf("%q: %v", pass, err)
		}
	}
	if _, err := open(b); !errors.Is(err, ErrLocked) {
		t.Errorf("without anything: %v", err)
	}
	if _, err := open(write(t, true, key(t).Recipient()), key(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("with another key: %v", err)
	}
}

func TestWhatAWriterRefuses(t *testing.T) {
	w, err := NewWriter(io.Discard, Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	segs, _ := segments(t, 3, 1)
	if err := w.Secret("cluster.key", []byte("x")); err == nil {
		t.Error("a secret went into a plain backup")
	}
	if err := w.Segment(segs[1]); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("a segment too early: %v", err)
	}
	if err := w.Segment(segs[0][:50]); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("half a segment: %v", err)
	}
	if err := errors.Join(w.Segment(segs[0]), w.State(nil)); err != nil {
		t.Fatal(err)
	}
	if err := w.State(nil); err == nil {
		t.Error("a part came twice")
	}
	for _, n := range []string{"secrets/../x", "secrets//etc/passwd", "secrets/", "secrets/..", "other", "segments/a/b.seg"} {
		if checkName(n) == nil {
			t.Errorf("%q may be a part", n)
		}
	}
}

func TestNewer(t *testing.T) {
	b := bytes.Replace(write(t, false), []byte("dyad backup 1"), []byte("dyad backup 2"), 1)
	if _, err := open(b); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "newest dyad") {
		t.Errorf("%v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(write(f, false))
	f.Add([]byte("dyad backup 1\n"))
	f.Add([]byte("age-encryption.org/v1\n-> X25519 x\n"))
	id := key(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if file, err := open(b, id); err == nil {
			if err := file.Segments(func(segment.Header, []byte) error { return nil }); err != nil {
				t.Fatalf("opened and then unreadable: %v", err)
			}
		}
	})
}
