package config

import (
	"fmt"
	"strings"
	"time"
)

// The words that failover.failback may be, beside times of day.
const (
	FailbackAuto   = "auto"
	FailbackManual = "manual"
)

// maxWindows bounds the times of day in failover.failback.
const maxWindows = 16

// Returns reads failover.failback: whether only an operator's word brings a node's
// share back, and between which times of day, since midnight UTC, it may come back
// by itself. No window means always.
func (f Failover) Returns() (manual bool, windows [][2]time.Duration, err error) {
	switch f.Failback {
	case "", FailbackAuto:
		return false, nil, nil
	case FailbackManual:
		return true, nil, nil
	}
	parts := strings.Split(f.Failback, ",")
	if len(parts) > maxWindows {
		return false, nil, fmt.Errorf("%d times of day; at most %d", len(parts), maxWindows)
	}
	for _, text := range parts {
		from, to, ok := strings.Cut(strings.TrimSpace(text), "-")
		first, err1 := time.Parse("15:04", from)
		last, err2 := time.Parse("15:04", to)
		if !ok || err1 != nil || err2 != nil || first.Equal(last) {
			return false, nil, fmt.Errorf("%q is not auto, manual, or a time of day in UTC such as 02:00-04:00", text)
		}
		windows = append(windows, [2]time.Duration{sinceMidnight(first), sinceMidnight(last)})
	}
	return false, windows, nil
}

func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}
