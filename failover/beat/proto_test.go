package beat

import (
	"bytes"
	"testing"
	"time"

	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
)

// What a node says arrives at the other one, in every mode and stance.
func TestWordsSurviveTheWire(t *testing.T) {
	for _, mode := range modes {
		for _, stance := range stances {
			want := failover.Word{
				Epoch: eventlog.Epoch(9), Seq: eventlog.Seq(1 << 40), Mode: mode, Stance: stance,
				SessionsUp: 1, SessionsWanted: 2, Stopping: stance == projections.StanceStepDown,
			}
			f, ok := decodeFeed(encodeFeed(FeedOf(want, true)))
			if got := wordOf(f.Word); !ok || !f.Armed || got != want {
				t.Errorf("%v %+v, want %+v", ok, got, want)
			}
		}
	}
	if _, ok := decodeFeed([]byte("short")); ok {
		t.Error("a short feed was taken")
	}
}

// Frames may arrive in any pieces.
func TestFramesAreCutAnywhere(t *testing.T) {
	var stream bytes.Buffer
	_ = writeFrame(&stream, frameFeed, encodeFeed(Feed{}))
	_ = writeFrame(&stream, frameBye, nil)
	all := stream.Bytes()
	for n := range all {
		var kinds []byte
		rest := all[:n]
		for {
			kind, _, after, err := nextFrame(rest)
			if err != nil {
				t.Fatal(err)
			}
			if kind == 0 {
				break
			}
			kinds, rest = append(kinds, kind), after
		}
		if want := n >= 5+feedLen; (len(kinds) == 1) != want {
			t.Errorf("%d of %d bytes: frames %q", n, len(all), kinds)
		}
	}
	if _, _, _, err := nextFrame([]byte{frameSetup, 0xff, 0, 0, 0}); err == nil {
		t.Error("a frame of 4 GB was waited for")
	}
}

func TestHugeSetupsAreRefused(t *testing.T) {
	s := Setup{Targets: make([]Target, 5000), Interval: time.Second}
	if _, err := encodeSetup(s); err == nil {
		t.Error("it was taken")
	}
}

func FuzzNextFrame(f *testing.F) {
	f.Add([]byte{frameBye, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, payload, rest, err := nextFrame(b)
		if err == nil && kind != 0 && 5+len(payload)+len(rest) != len(b) {
			t.Errorf("%d bytes became %d and %d", len(b), len(payload), len(rest))
		}
	})
}
