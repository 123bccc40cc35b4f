package etcdlog_test

import (
	"testing"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/logtest"
	"dyad/eventlog/segment"
)

// Segments and a real trimmed log together pass the suite of every log, while
// events move from one to the other under its readers.
func TestJoinedConformance(t *testing.T) {
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		prefix := newPrefix()
		p := newProxy(t, storeAddr)
		l := open(t, p.addr, etcdlog.Options{Prefix: prefix})
		s, err := segment.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		whole := segment.Join(l, s)
		return logtest.Harness{
			Log: whole, Close: l.Close,
			Compact: func(t *testing.T) { sealSome(t, whole, s) },
			Reconnect: func(t *testing.T) {
				p.cut()
				eventually(t, func() error { _, err := l.Head(t.Context()); return err })
				sealSome(t, whole, s)
			},
		}
	})
}

// sealSome seals and trims all but the newest few events.
func sealSome(t *testing.T, l *segment.Log, s *segment.Store) {
	t.Helper()
	h, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for s.End().Seq+5 < h.Seq {
		run, err := l.Read(t.Context(), s.End().Seq, 5)
		if err == nil {
			_, err = s.Seal("c", run)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	end := s.End()
	if end == (eventlog.Head{}) {
		return
	}
	if err := l.Trim(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	c := client(t, storeAddr)
	resp, err := c.Get(t.Context(), "x")
	if err == nil {
		_, err = c.Compact(t.Context(), resp.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
}
