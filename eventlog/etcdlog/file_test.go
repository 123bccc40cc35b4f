package etcdlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// The file of a member holds the log: what was trimmed is gone, the rest is there
// byte for byte, also while the member runs.
func TestReadFile(t *testing.T) {
	prefix := newPrefix()
	l := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	ds := make([]eventlog.Draft, 1500)
	for i := range ds {
		ds[i] = draft(i, "")
	}
	sealed := put(t, l, ds...)
	for _, floor := range []eventlog.Head{{}, eventlog.HeadOf(sealed[1199])} {
		if floor.Seq > 0 {
			if err := l.Trim(t.Context(), floor); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, func() error { // the store writes its file now and then
			at, events, err := etcdlog.ReadFile(storeFile, t.TempDir(), prefix)
			switch {
			case err != nil:
				return err
			case at != floor || len(events) != 1500-int(floor.Seq):
				return fmt.Errorf("floor %v, %d events", at, len(events))
			}
			for i, e := range events {
				if e.Hash != sealed[int(floor.Seq)+i].Hash {
					t.Fatalf("event %d is another one", e.Seq)
				}
			}
			return nil
		})
	}
	// Whatever is cut off the file is noticed.
	whole, err := os.ReadFile(storeFile)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for _, n := range []int{0, 100, 2 * page, 3 * page, 5*page + 17, 20 * page} {
		short := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(short, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := etcdlog.ReadFile(short, t.TempDir(), prefix); err == nil {
			t.Errorf("%d of %d bytes passed", n, len(whole))
		}
	}
	for i := 0; i < 64*page; i += 997 {
		bad := bytes.Clone(whole[:len(whole)/8])
		bad[i] ^= 0xff
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, events, err := etcdlog.ReadFile(path, t.TempDir(), prefix); err == nil && (len(events) != 300 || events[299].Hash != sealed[1499].Hash) {
			t.Errorf("byte %d changed, and another log came out", i)
		}
	}
	if _, _, err := etcdlog.ReadFile(filepath.Join(t.TempDir(), "none"), t.TempDir(), prefix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
