package bench

import (
	"testing"
	"time"
)

func TestLongestStall(t *testing.T) {
	t0 := time.Unix(1000, 0)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	s := &stalls{}
	for _, x := range [][2]int{{0, 30}, {40, 44}, {50, 90}} {
		s.note(stall{at(x[0]), at(x[1])})
	}
	for _, c := range []struct{ from, to, want int }{
		{35, 45, 4},  // one whole
		{20, 45, 10}, // the end of one is longer
		{31, 39, 0},
		{41, 60, 10}, // the beginning of one
		{55, 57, 2},  // within one
	} {
		if got := s.longest(at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%d–%d: %s, want %d ms", c.from, c.to, got, c.want)
		}
	}
	w := watchStalls()
	w.end()
}
