package bench

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "417 (a (b) c) S 1 417 417 0 -1 4194560 900 0 3 0 250 125 0 0 20 0 9 0 8123 1300000000 2000 18446744073709551615 1 1\n"
	got, err := parseStat(417, line, 4096)
	if want := (process{pid: 417, cpu: 3750 * time.Millisecond, rss: 8.192}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "417 (x) S 1", "417 (x) S 1 417 417 0 -1 4194560 900 0 3 0 x 125 0 0 20 0 9 0 8123 1300000000 2000 1"} {
		if _, err := parseStat(417, bad, 4096); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	self, err := readProcess(os.Getpid())
	if err != nil || self.rss <= 0 {
		t.Errorf("this process: %+v, %v", self, err)
	}
}
