package memlog_test

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"dyad/eventlog"
	"dyad/eventlog/logtest"
	"dyad/eventlog/memlog"
)

func TestConformance(t *testing.T) {
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		l := memlog.New(nil)
		return logtest.Harness{Log: l, Close: l.Close}
	})
}

func TestClockAndSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memlog.New(time.Now)
		time.Sleep(time.Hour) // virtual time
		got, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{{Type: "t", Stream: "s"}}})
		if err != nil || !got[0].Time.Equal(time.Now()) {
			t.Fatalf("recorded at %v (%v), want now, %v", got[0].Time, err, time.Now())
		}
		why := errors.New("no quorum")
		l.Suspend(why)
		_, err = l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{{Type: "t", Stream: "s"}}})
		if !errors.Is(err, eventlog.ErrUnavailable) || !errors.Is(err, why) {
			t.Errorf("suspended: %v, want ErrUnavailable for that reason", err)
		}
		if h, err := l.Head(t.Context()); err != nil || h.Seq != 1 {
			t.Errorf("head while suspended: %v, %v", h, err)
		}
		l.Suspend(nil)
		if _, err = l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{{Type: "t", Stream: "s"}}}); err != nil {
			t.Errorf("resumed: %v", err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			l := memlog.New(nil)
			ds := make([]eventlog.Draft, size)
			for i := range ds {
				ds[i] = eventlog.Draft{ID: "0195f3a0-0000-7000-8000-000000000001", Type: eventlog.TypePeerSet, Stream: "peer/vSwitch1/192.0.2.1", Data: []byte(`{"switch":"vSwitch1"}`)}
			}
			for b.Loop() {
				if _, err := l.Append(b.Context(), eventlog.Batch{Drafts: ds}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
