package config

import (
	"reflect"
	"testing"
	"time"
)

func TestFailback(t *testing.T) {
	for text, want := range map[string]struct {
		manual  bool
		windows [][2]time.Duration
		bad     bool
	}{
		"":                         {},
		"auto":                     {},
		"manual":                   {manual: true},
		"02:00-04:30":              {windows: [][2]time.Duration{{2 * time.Hour, 4*time.Hour + 30*time.Minute}}},
		"23:30-00:30, 12:00-13:00": {windows: [][2]time.Duration{{23*time.Hour + 30*time.Minute, 30 * time.Minute}, {12 * time.Hour, 13 * time.Hour}}},
		"by hand":                  {bad: true},
		"02:00":                    {bad: true},
		"02:00-02:00":              {bad: true},
		"02:00-25:00":              {bad: true},
		"02:00-04:00,":             {bad: true},
	} {
		c := Default()
		c.Failover.Failback = text
		manual, windows, err := c.Failover.Returns()
		if manual != want.manual || !reflect.DeepEqual(windows, want.windows) || (err != nil) != want.bad {
			t.Errorf("%q: %v %v %v", text, manual, windows, err)
		}
		if errs := c.Failover.check(); (len(errs) > 0) != want.bad {
			t.Errorf("%q is checked: %v", text, errs)
		}
	}
}
