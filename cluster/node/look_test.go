package node

import (
	"testing"
	"time"

	"dyad/speaker"
)

// A session outlives its router by its hold time; 0 means for ever.
func TestOutlasts(t *testing.T) {
	for name, c := range map[string]struct {
		hold []uint16
		want bool
	}{
		"shorter":     {[]uint16{2, 1}, true},
		"one as long": {[]uint16{2, 3}, false},
		"for ever":    {[]uint16{0}, false},
		"the default": {[]uint16{90}, false},
	} {
		var sessions []speaker.Session
		for _, h := range c.hold {
			sessions = append(sessions, speaker.Session{HoldTime: h})
		}
		if got := outlasts(3*time.Second, sessions); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
