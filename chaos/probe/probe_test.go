package probe

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"dyad/chaos"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPort = 47007

func echo(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Echo(ctx, testPort, "here") }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("echo: %v", err)
		}
	})
}

// until polls for a level.
func until(t *testing.T, what string, level func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !level() {
		select {
		case <-deadline:
			t.Fatalf("waited 10 s for %s", what)
		case <-tick.C:
		}
	}
}

// Every address of the loopback answers from itself, though the responder has
// one socket for all; an address nobody has does not answer.
func TestProbe(t *testing.T) {
	echo(t)
	targets := []Target{
		{Address: netip.MustParseAddr("127.0.0.1")},
		{Address: netip.MustParseAddr("127.0.0.77"), Flows: 2},
	}
	p, err := Start(context.Background(), Config{Targets: targets, Port: testPort, Hz: 1000})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "answers in a row", func() bool {
		n := p.Now()
		return len(n) == 2 && n[0].InRow > 100 && n[1].InRow > 100
	})
	if n := p.Now(); len(n[1].From) != 2 || n[1].From[0] != "here" {
		t.Errorf("who answers: %+v", n)
	}
	r := p.Stop()
	if len(r.Streams) != 3 {
		t.Fatalf("%d streams", len(r.Streams))
	}
	for _, s := range r.Streams {
		m := chaos.Measure(s.Samples)
		if m.Answered < 100 || m.Lost > m.Sent/2 {
			t.Errorf("%s flow %d: %+v", s.Address, s.Flow, m)
		}
		for i, x := range s.Samples {
			if x.Seq != uint64(i) || (i > 0 && x.Sent < s.Samples[i-1].Sent) {
				t.Fatalf("%s: sample %d out of order: %+v", s.Address, i, x)
			}
		}
	}
}

func TestProbeNobodyAnswers(t *testing.T) {
	p, err := Start(context.Background(), Config{
		Targets: []Target{{Address: netip.MustParseAddr("127.0.0.1")}}, Port: testPort + 1, Hz: 500,
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "some probes", func() bool { return p.Now()[0].Silence > 50*time.Millisecond })
	if n := p.Now()[0]; n.InRow != 0 {
		t.Errorf("answers from nobody: %+v", n)
	}
	r := p.Stop()
	m := chaos.Measure(r.Streams[0].Samples)
	if m.Answered != 0 || m.Lost == 0 || !m.Longest.Open {
		t.Errorf("%+v", m)
	}
}

// A prober that did not run for a while must say so, and not count what it did
// not send as lost.
func TestProbeOwnPause(t *testing.T) {
	p := &Prober{interval: time.Millisecond, streams: []*stream{{}}}
	p.skipped(5*time.Millisecond, 3, 3*time.Millisecond)
	m := chaos.Measure(p.streams[0].samples)
	if m.Unsent != 3 || m.Lost != 0 || p.maxPause != 3*time.Millisecond {
		t.Errorf("%+v, pause %s", m, p.maxPause)
	}
}

func TestLateAnswerIsLost(t *testing.T) {
	s := &stream{samples: []chaos.Sample{{Outcome: chaos.Lost}, {Seq: 1, Outcome: chaos.Lost}}}
	s.answered(0, answerWithin+1, "x")
	s.answered(1, answerWithin, "x")
	s.answered(1, 5, "again")
	s.answered(9, 5, "never sent")
	if s.samples[0].Outcome != chaos.Lost || s.samples[1].Outcome != chaos.Answered || s.samples[1].At != answerWithin {
		t.Errorf("%+v", s.samples)
	}
}

func TestRefusals(t *testing.T) {
	if _, err := Start(context.Background(), Config{Hz: 0}); err == nil {
		t.Error("a rate of 0 was taken")
	}
	if err := Echo(context.Background(), 0, string(make([]byte, maxName+1))); err == nil {
		t.Error("a name too long for an answer was taken")
	}
	boom := errors.New("no namespace")
	_, err := Start(context.Background(), Config{Hz: 1, Do: func(func() error) error { return boom }})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func TestPacket(t *testing.T) {
	p := packet{7, 1 << 60, 42}
	got, rest, err := parse(append(p.append(nil), "node-a"...))
	if err != nil || got != p || string(rest) != "node-a" {
		t.Errorf("%+v %q %v", got, rest, err)
	}
	for _, bad := range []string{"", "dyp1", "xyz1aaaabbbbbbbbcccccccc"} {
		if _, _, err := parse([]byte(bad)); err == nil {
			t.Errorf("%q is a probe", bad)
		}
	}
	if _, ok := sourceOf(make([]byte, unix.SizeofCmsghdr)); ok {
		t.Error("empty packet information has a source")
	}
}
