package chaos

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

// stream builds samples 1 ms apart: '.' answered, 'x' lost, ' ' unsent.
func stream(s string) []Sample {
	var out []Sample
	for i, c := range s {
		p := Sample{Seq: uint64(i), Sent: time.Duration(i) * ms, Outcome: Unsent}
		switch c {
		case '.':
			p.Outcome, p.At = Answered, p.Sent+ms/10
		case 'x':
			p.Outcome = Lost
		}
		out = append(out, p)
	}
	return out
}

func TestOutages(t *testing.T) {
	cases := []struct {
		name, probes string
		want         []Outage
	}{
		{"none sent", "", nil},
		{"all answered", "....", nil},
		{"one lost", "..x..", []Outage{{From: 2 * ms, To: 3 * ms, Lost: 1}}},
		{"a run ends with the first answer", ".xxx.", []Outage{{From: 1 * ms, To: 4 * ms, Lost: 3}}},
		{"two runs", ".xx.x.", []Outage{{From: 1 * ms, To: 3 * ms, Lost: 2}, {From: 4 * ms, To: 5 * ms, Lost: 1}}},
		{"a pause of the prober is no loss", "..   ..", nil},
		{"a pause does not end a run", ".x  x.", []Outage{{From: 1 * ms, To: 5 * ms, Lost: 2}}},
		{"a pause at the end keeps the run until the answer", ".xx  .", []Outage{{From: 1 * ms, To: 5 * ms, Lost: 2}}},
		{"never back", "..xxx", []Outage{{From: 2 * ms, To: 4 * ms, Lost: 3, Open: true}}},
		{"lost from the first", "xx.", []Outage{{From: 0, To: 2 * ms, Lost: 2}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Outages(stream(c.probes))
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("outage %d: got %+v, want %+v", i, got[i], c.want[i])
				}
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	m := Measure(stream("..xx. x."))
	if m.Sent != 7 || m.Answered != 4 || m.Lost != 3 || m.Unsent != 1 || m.Outages != 2 {
		t.Fatalf("counts: %+v", m)
	}
	if m.Longest.Length() != 2*ms || m.Longest.Lost != 2 {
		t.Errorf("longest: %+v", m.Longest)
	}
	open := Measure(stream(".xxxx.x"))
	if !open.Longest.Open {
		t.Errorf("an outage without an end is not the longest: %+v", open.Longest)
	}
}

func TestReordered(t *testing.T) {
	at := func(ats ...time.Duration) []Sample {
		var out []Sample
		for i, a := range ats {
			out = append(out, Sample{Seq: uint64(i), Sent: time.Duration(i) * ms, At: a, Outcome: Answered})
		}
		return out
	}
	cases := []struct {
		name string
		in   []Sample
		want int
	}{
		{"in order", at(1, 2, 3), 0},
		{"same instant", at(1, 1, 1), 0},
		{"one late", at(1, 5, 3, 6), 1},
		{"one overtakes two", at(4, 5, 3), 2},
	}
	for _, c := range cases {
		if got := Measure(c.in).Reordered; got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestWindow(t *testing.T) {
	s := stream("..........")
	if got := Window(s, 2*ms, 5*ms); len(got) != 3 || got[0].Seq != 2 || got[2].Seq != 4 {
		t.Errorf("window [2,5): %v", got)
	}
	if got := Window(s, 50*ms, 60*ms); len(got) != 0 {
		t.Errorf("window after the end: %v", got)
	}
	if got := Window(s, 5*ms, 2*ms); len(got) != 0 {
		t.Errorf("reversed window: %v", got)
	}
}

func TestMeasureProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		probes := rapid.StringOfN(rapid.RuneFrom([]rune(".x ")), 0, 200, -1).Draw(t, "probes")
		s := stream(probes)
		m := Measure(s)
		if m.Sent+m.Unsent != len(s) || m.Answered+m.Lost != m.Sent {
			t.Fatalf("counts do not add up: %+v of %d", m, len(s))
		}
		lost := 0
		for i, o := range Outages(s) {
			lost += o.Lost
			if o.Length() < 0 || (o.Open && i != m.Outages-1) {
				t.Fatalf("outage %d: %+v", i, o)
			}
			if !o.Open && o.Length() < time.Duration(o.Lost)*ms {
				t.Fatalf("outage shorter than its losses: %+v", o)
			}
		}
		if lost != m.Lost {
			t.Fatalf("outages hold %d losses of %d", lost, m.Lost)
		}
		cut := time.Duration(rapid.IntRange(0, len(s)).Draw(t, "cut")) * ms
		a, b := Measure(Window(s, 0, cut)), Measure(Window(s, cut, time.Hour))
		if a.Lost+b.Lost != m.Lost || a.Sent+b.Sent != m.Sent {
			t.Fatalf("windows do not add up: %+v + %+v != %+v", a, b, m)
		}
	})
}

func parts(by string, detect, decide, announce, converge int) Parts {
	d := func(n int) time.Duration { return time.Duration(n) * ms }
	return Parts{Known: true, By: by, Detect: d(detect), Decide: d(decide), Announce: d(announce), Converge: d(converge)}
}

func TestSplit(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * ms) }
	cases := []struct {
		name string
		in   Instants
		want Parts
	}{
		{"as it should be", Instants{Detected: at(300), Decided: at(301), Announced: at(303)}, parts(ByPreference, 298, 1, 2, 99)},
		{"noticed before the first lost probe", Instants{Detected: at(1), Decided: at(1), Announced: at(5)}, parts(ByPreference, 0, 0, 3, 397)},
		{"announced after traffic was back", Instants{Detected: at(300), Decided: at(301), Announced: at(900)}, parts(ByPreference, 298, 1, 101, 0)},
		{"an earlier takeover", Instants{Detected: at(-50), Decided: at(-49), Announced: at(-48)}, Parts{}},
		{"nothing told", Instants{}, Parts{}},
		{"the next hop first", Instants{at(15), at(16), at(18), at(15)}, parts(ByNextHop, 13, 0, 0, 387)},
		{"the next hop after the routes", Instants{at(15), at(16), at(18), at(20)}, parts(ByPreference, 13, 1, 2, 384)},
		{"the next hop alone", Instants{Detected: at(15), NextHop: at(17)}, parts(ByNextHop, 13, 0, 2, 385)},
		{"announced not told", Instants{Detected: at(300), Decided: at(301), Announced: time.Time{}}, parts(ByPreference, 298, 1, 0, 101)},
	}
	for _, c := range cases {
		if got := Split(t0, at(2), at(402), c.in); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestSplitProperties(t *testing.T) {
	t0 := time.Unix(1_700_000_000, 0)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) time.Time {
			return t0.Add(time.Duration(rapid.IntRange(-1000, 2000).Draw(t, name)) * ms)
		}
		from := t0.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "from")) * ms)
		to := from.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "length")) * ms)
		p := Split(t0, from, to, Instants{draw("detected"), draw("decided"), draw("announced"), draw("next hop")})
		if min(p.Detect, p.Decide, p.Announce, p.Converge) < 0 {
			t.Fatalf("negative part: %+v", p)
		}
		if p.Known && p.Total() != to.Sub(from) {
			t.Fatalf("parts %+v do not add up to %s", p, to.Sub(from))
		}
	})
}
