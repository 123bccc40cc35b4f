package beacon

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWord(rapid.Uint16().Draw(t, "ask"), rapid.Uint16().Draw(t, "answer"), rapid.Uint8Range(0, 15).Draw(t, "mode"), rapid.Uint64().Draw(t, "epoch"))
		on := w.Communities()
		i := rapid.IntRange(0, len(on)).Draw(t, "where")
		foreign := rapid.Uint32Range(0, 64941<<16).Draw(t, "foreign")
		if got, ok := Parse(append(append(append([]uint32{}, on[:i]...), foreign), on[i:]...)); !ok || got != w {
			t.Fatalf("%+v came back as %+v %v", w, got, ok)
		}
		j := rapid.IntRange(0, len(on)-1).Draw(t, "gone")
		if _, ok := Parse(append(append([]uint32{}, on[:j]...), on[j+1:]...)); ok {
			t.Fatal("a word with a part missing was believed")
		}
	})
}

func TestOnlyAnAnswerIsAlive(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(100, 0).Add(time.Duration(ms) * time.Millisecond) }
	a, b := NewWatch(65535), NewWatch(7)
	carry := func(from, to *Watch) {
		ask, answer := from.Numbers()
		to.Hear(NewWord(ask, answer, 2, 9))
	}
	quiet, _ := a.Numbers()
	a.Tick(at(0), false)
	carry(b, a)
	if ask, _ := a.Numbers(); ask != quiet || !a.Alive().IsZero() {
		t.Fatal("it asked, or believed, though nobody was missed")
	}
	a.Tick(at(10), true)
	a.Tick(at(900), true)                // not again so soon
	if ask, _ := a.Numbers(); ask != 1 { // behind 65535

		t.Fatalf("asks %d after %d", ask, quiet)
	}
	carry(b, a) // what the router still holds
	if !a.Alive().IsZero() {
		t.Fatal("an old beacon counted as an answer")
	}
	carry(a, b)
	carry(b, a)
	if got := a.Alive(); got != at(10) {
		t.Fatalf("alive at %v, want when it was asked", got)
	}
	a.Tick(at(1010), true)
	carry(b, a) // b is dead now: the router holds its last answer
	if got := a.Alive(); got != at(10) {
		t.Fatalf("a repeated answer made it younger: %v", got)
	}
	carry(a, b)
	for i := range 20 { // the answer takes long
		a.Tick(at(2010+1000*i), true)
	}
	carry(b, a)
	if got := a.Alive(); got != at(10) {
		t.Fatalf("an answer to a forgotten question counted: %v", got)
	}
}

// A node that is gone for long costs the routers little.
func TestItAsksSlowlyInTheEnd(t *testing.T) {
	w, now := NewWatch(1), time.Unix(100, 0)
	count := func(d time.Duration) int {
		from, _ := w.Numbers()
		for end := now.Add(d); now.Before(end); now = now.Add(100 * time.Millisecond) {
			w.Tick(now, true)
		}
		to, _ := w.Numbers()
		return int(to - from)
	}
	if n := count(Patience); n != 60 {
		t.Errorf("%d questions in the first %s", n, Patience)
	}
	if n := count(10 * time.Minute); n > 22 {
		t.Errorf("%d questions in the next ten minutes", n)
	}
	ask, _ := w.Numbers()
	w.Hear(Word{Answer: ask, Ask: 3})
	if n := count(10 * time.Second); n < 9 {
		t.Errorf("%d questions in ten seconds after an answer", n)
	}
	w.Tick(now, false)
	if n := count(10 * time.Second); n < 9 {
		t.Errorf("%d questions in the ten seconds of another silence", n)
	}
}
