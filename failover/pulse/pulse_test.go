package pulse

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func testKey(t testing.TB, secret string) []byte {
	t.Helper()
	k, err := DeriveKey([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const secret = "a secret of enough bytes"

func mustDetector(t testing.TB, self, peer string, boot uint64, now time.Duration) *Detector {
	t.Helper()
	d, err := NewDetector(Config{Self: self, Peer: peer, Key: testKey(t, secret), Boot: boot, Paths: 2, Profile: Fast}, now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pair is two detectors on two paths in virtual time.
type pair struct {
	t    testing.TB
	now  time.Duration
	node [2]*Detector
	word [2]Word
	cut  [2][2]bool // sender, path: heartbeats are lost
	dead [2]bool
	tape [][]byte // everything a has sent on path 0
	log  []string
}

func newPair(t testing.TB) *pair {
	p := &pair{t: t, now: time.Hour}
	p.node[0] = mustDetector(t, "a", "b", 101, p.now)
	p.node[1] = mustDetector(t, "b", "a", 201, p.now)
	return p
}

// run lets both beat for d, b half an interval after a.
func (p *pair) run(d time.Duration) {
	end := p.now + d
	for p.now < end {
		for i, n := range p.node {
			due := p.now%Fast.Interval == time.Duration(i)*Fast.Interval/2
			if p.dead[i] {
				continue
			}
			if due {
				p.beat(i)
			}
			n.Turn(p.now)
			p.note(i)
		}
		p.now += ms / 2
	}
}

func (p *pair) beat(i int) {
	var buf [Size]byte
	for path := range 2 {
		b := p.node[i].Compose(path, p.word[i], buf[:])
		if i == 0 && path == 0 {
			p.tape = append(p.tape, bytes.Clone(b))
		}
		if !p.cut[i][path] && !p.dead[1-i] {
			p.node[1-i].Receive(p.now, path, b)
			p.note(1 - i)
		}
	}
}

func (p *pair) note(i int) {
	for _, e := range p.node[i].Events() {
		p.log = append(p.log, fmt.Sprintf("%c:%s", 'a'+i, describe(e)))
	}
}

func describe(e Event) string {
	switch e.Kind {
	case PathUp, PathDown, Deaf, Hears:
		return fmt.Sprintf("%s/%d", e.Kind, e.Path)
	}
	return e.Kind.String()
}

// said takes the log, and empties it.
func (p *pair) said() string {
	s := strings.Join(p.log, " ")
	p.log = nil
	return s
}

func (p *pair) want(want string) {
	p.t.Helper()
	if got := p.said(); got != want {
		p.t.Errorf("at %s:\n got %s\nwant %s", p.now-time.Hour, got, want)
	}
}

func TestTwoNodesHearEachOther(t *testing.T) {
	p := newPair(t)
	p.run(20 * ms)
	for _, want := range []string{"a:heard", "b:heard", "a:path-up/1", "b:path-up/0"} {
		if !slices.Contains(p.log, want) {
			t.Errorf("no %s in %v", want, p.log)
		}
	}
	p.log = nil
	p.run(10 * time.Second)
	p.want("")
	if c := p.node[0].Counts(); c.Forged+c.Foreign+c.Misrouted+c.Refused+c.Suspicions+c.Pauses > 0 || c.Received < 3900 {
		t.Errorf("%+v", c)
	}
}

func TestDeathIsSuspectedInTime(t *testing.T) {
	for _, late := range []time.Duration{0, ms, 2 * ms, 4 * ms} {
		p := newPair(t)
		p.run(100*ms + late)
		p.said()
		p.dead[1] = true
		died := p.now
		for p.node[0].state == alive && p.now < died+time.Second {
			p.run(ms / 2)
		}
		p.want("a:doubted a:path-down/0 a:path-down/1 a:suspected")
		if took := p.now - died; took < Fast.Silence()-Fast.Interval || took > Fast.Silence()+ms {
			t.Errorf("suspected after %s", took)
		}
	}
}

func TestOnePathIsNoDeath(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	p.cut[0][0], p.cut[1][0] = true, true
	p.run(time.Second)
	p.want("b:doubted a:doubted b:path-down/0 a:path-down/0")
	p.cut[0][0], p.cut[1][0] = false, false
	p.run(100 * ms)
	p.want("b:path-up/0 b:calm a:path-up/0 a:calm")
	// With one path down, the death of the other asks anew.
	p.cut[1][0] = true
	p.run(time.Second)
	p.said()
	p.dead[1] = true
	p.run(50 * ms)
	p.want("a:doubted a:path-down/1 a:suspected")
}

func TestOneWayLossIsSeen(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	p.cut[0][1] = true // a's words on path 1 are lost
	p.run(time.Second)
	// Either may be the one that is cut off, so both ask their routers.
	p.want("b:doubted b:path-down/1 a:deaf/1 a:doubted")
	p.cut[0][1] = false
	p.run(100 * ms)
	p.want("b:path-up/1 b:calm a:hears/1 a:calm")
	p.cut[0] = [2]bool{true, true} // all of them
	p.run(time.Second)
	if s := p.said(); !strings.Contains(s, "b:suspected") || !strings.Contains(s, "a:said") || strings.Contains(s, "a:suspected") {
		t.Error(s)
	}
	if p.node[0].word.Flags&FlagSuspects == 0 {
		t.Error("b does not tell that it does not hear a")
	}
}

// A node that is not heard on one path asks its routers anew, also if another path
// has been down for long and they answered then.
func TestDeafIsDoubtedAnew(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.cut[0][0], p.cut[1][0] = true, true
	p.run(time.Second)
	p.said()
	p.cut[0][1] = true
	p.run(time.Second)
	if s := p.said(); !strings.Contains(s, "a:deaf/1 a:doubted") {
		t.Error(s)
	}
}

// A pause of one's own accuses nobody, and a death after it is still seen.
func TestOwnPauseAccusesNobody(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	p.now += 10 * time.Second // both stood still
	p.run(10 * ms)
	if s := p.said(); strings.Contains(s, "suspected") || !strings.Contains(s, "a:paused") {
		t.Error(s)
	}
	p.now += 10 * time.Second
	p.dead[1] = true
	p.run(50 * ms)
	if s := p.said(); !strings.Contains(s, "a:paused") || !strings.Contains(s, "a:suspected") {
		t.Error(s)
	}
}

// Whatever was recorded is worthless: in the same boot, after a restart of the
// receiver, and after a restart of the sender.
func TestReplayChangesNothing(t *testing.T) {
	p := newPair(t)
	p.run(time.Second)
	tape := slices.Clone(p.tape)
	p.dead[0] = true
	p.run(100 * ms)
	p.said()
	replay := func(what string) {
		t.Helper()
		for _, b := range tape {
			p.node[1].Receive(p.now, 0, b)
		}
		p.note(1)
		if s := p.said(); s != "" {
			t.Errorf("%s: %s", what, s)
		}
	}
	replay("in the same boot")
	p.node[1] = mustDetector(t, "b", "a", 202, p.now)
	p.run(20 * ms)
	p.said()
	replay("after the receiver's restart")
	p.dead[0] = false
	p.node[0] = mustDetector(t, "a", "b", 102, p.now)
	p.run(100 * ms)
	if s := p.said(); !strings.Contains(s, "b:heard") {
		t.Errorf("the new boot is not heard: %s", s)
	}
	replay("after the sender's restart")
	p.run(100 * ms)
	p.want("")
}

func TestForeignersAreCounted(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	var buf [Size]byte
	b := p.node[1]
	good := bytes.Clone(p.node[0].Compose(0, Word{}, buf[:]))
	before := b.Counts()
	b.Receive(p.now, 1, good)
	b.Receive(p.now, 0, good[:Size-1])
	b.Receive(p.now, 0, []byte("hello"))
	b.Receive(p.now, 0, nil)
	forged := bytes.Clone(good)
	forged[3] ^= byte(FlagBye)
	b.Receive(p.now, 0, forged)
	reflected := bytes.Clone(b.Compose(0, Word{}, buf[:]))
	b.Receive(p.now, 0, reflected)
	p.note(1)
	p.want("")
	after := b.Counts()
	if after.Misrouted-before.Misrouted != 1 || after.Forged-before.Forged != 1 || after.Foreign-before.Foreign != 4 || after.Received != before.Received {
		t.Errorf("%+v, before %+v", after, before)
	}
}

func TestLastWords(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	p.word[1].Flags = FlagGone
	p.beat(1)
	p.want("a:path-down/0 a:path-down/1 a:process-down")
	p.run(ms)
	p.word[1].Flags = 0
	p.run(100 * ms)
	p.said()
	p.word[1].Flags = FlagBye
	p.beat(1)
	p.dead[1] = true
	p.run(time.Second)
	p.want("a:path-down/0 a:path-down/1 a:left")
}

func TestRefusedHeartbeats(t *testing.T) {
	p := newPair(t)
	p.node[0].Refuse(p.now, 0) // before it was ever heard: no news
	p.run(100 * ms)
	p.said()
	p.node[0].Refuse(p.now, 1) // one path: its socket is being opened anew
	p.note(0)
	p.want("a:path-down/1")
	p.run(50 * ms)
	p.want("a:doubted a:path-up/1 a:calm")
	p.dead[1] = true
	p.node[0].Refuse(p.now, 1)
	p.node[0].Refuse(p.now, 0)
	p.note(0)
	p.want("a:path-down/1 a:path-down/0 a:process-down")
	p.dead[1] = false
	p.run(50 * ms)
	p.said()
	// One path refuses, the other one is cut: the refusal tells.
	p.dead[1] = true
	p.node[0].Refuse(p.now, 1)
	p.run(50 * ms)
	if s := p.said(); !strings.Contains(s, "a:process-down") || strings.Contains(s, "suspected") {
		t.Error(s)
	}
}

// The kernel takes its time to end a killed process: first silence, then refusals.
func TestLateRefusals(t *testing.T) {
	p := newPair(t)
	p.cut[1][1] = true // never heard there
	p.run(100 * ms)
	p.said()
	p.dead[1] = true
	p.run(20 * ms)
	p.want("a:doubted a:path-down/0 a:suspected")
	p.node[0].Refuse(p.now, 1)
	p.note(0)
	p.want("")
	p.node[0].Refuse(p.now, 0)
	p.node[0].Refuse(p.now, 0)
	p.note(0)
	p.want("a:process-down")
	p.dead[1] = false
	p.run(50 * ms)
	if s := p.said(); !strings.Contains(s, "a:heard") {
		t.Error(s)
	}
}

// Heartbeats may be taken late: what counts is when they came. A silence is
// suspected neither later for it nor sooner, and a path that was read before
// another one takes nothing from it.
func TestHeartbeatsAreTakenLate(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	var buf [Size]byte
	p.dead[1] = true
	came := p.now
	first := bytes.Clone(p.node[1].Compose(0, Word{}, buf[:]))
	second := bytes.Clone(p.node[1].Compose(1, Word{}, buf[:]))
	p.run(4 * ms)
	p.node[0].Receive(came+ms, 1, second)
	p.node[0].Receive(came, 0, first)
	p.note(0)
	p.want("")
	for p.node[0].state == alive && p.now < came+time.Second {
		p.run(ms / 2)
	}
	if got := p.now - ms/2 - came; got != ms+Fast.Silence() {
		t.Errorf("suspected %s after the first of them came", got)
	}
}

// A path that is added or taken away is no reason to suspect anybody.
func TestPathsChangeWithoutABreak(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	p.said()
	p.node[0].Rewire([]int{0})
	p.run(8 * ms)
	p.node[0].Rewire([]int{0, -1})
	p.run(time.Second)
	if s := p.said(); strings.Contains(s, "suspected") || !strings.Contains(s, "a:path-up/1") {
		t.Error(s)
	}
}

// Two configurations that differ make nobody suspect anybody.
func TestTheSlowerIntervalCounts(t *testing.T) {
	p := newPair(t)
	slow, err := NewDetector(Config{Self: "b", Peer: "a", Key: testKey(t, secret), Boot: 7, Paths: 2, Profile: Standard}, p.now)
	if err != nil {
		t.Fatal(err)
	}
	p.node[1] = slow
	p.run(100 * ms)
	p.said()
	end := p.now + time.Second
	for p.now < end { // a every 5 ms, b every 20 ms
		p.dead[1] = p.now%(20*ms) != Fast.Interval/2
		p.node[1].Turn(p.now)
		p.run(ms / 2)
	}
	if c := p.node[0].Counts(); c.Suspicions > 0 {
		t.Errorf("%+v %s", c, p.said())
	}
}

func TestKeys(t *testing.T) {
	if _, err := DeriveKey([]byte("short")); err == nil {
		t.Error("a short secret was taken")
	}
	if bytes.Equal(testKey(t, secret), testKey(t, secret+"2")) {
		t.Error("two secrets, one key")
	}
	if _, err := NewCodec(make([]byte, 5), "a", "b"); err == nil {
		t.Error("a short key was taken")
	}
	if _, err := NewCodec(testKey(t, secret), "a", "a"); err == nil {
		t.Error("a node is its own peer")
	}
}

func TestProfiles(t *testing.T) {
	for _, p := range Profiles() {
		if got, err := FindProfile(p.Name); err != nil || got != p {
			t.Errorf("%v %v", got, err)
		}
	}
	if _, err := FindProfile("reckless"); err == nil {
		t.Error("an unknown profile was found")
	}
}

// The loop must be able to run without garbage collection.
func TestNothingAllocates(t *testing.T) {
	p := newPair(t)
	p.run(100 * ms)
	a, b := p.node[0], p.node[1]
	buf, now := make([]byte, Size), p.now
	taker := NewTaker([]Class{Hop, Kernel, Gateway})
	if n := testing.AllocsPerRun(1000, func() {
		now += 2 * ms
		b.Receive(now, 0, a.Compose(0, Word{Epoch: 3}, buf))
		a.Receive(now, 1, b.Compose(1, Word{}, buf))
		a.Receive(now, 1, buf[:20])
		a.Turn(now)
		b.Turn(now)
		taker.Quiet(now)
		taker.Turn(now)
		taker.Calm(now)
		_, _, _, _, _ = a.Events(), b.Events(), a.Due(now), taker.Actions(), taker.Events()
	}); n > 0 {
		t.Errorf("%v allocations in a turn", n)
	}
}

func TestSealedIsOpened(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		a, _ := NewCodec(testKey(t, secret), "a", "b")
		b, _ := NewCodec(testKey(t, secret), "b", "a")
		u64, u8 := rapid.Uint64(), rapid.Uint8()
		h := Heartbeat{
			Word: Word{Flags: Flags(u8.Draw(r, "flags")), Mode: u8.Draw(r, "mode"), Stance: u8.Draw(r, "stance"), SessionsUp: u8.Draw(r, "up"), SessionsWanted: u8.Draw(r, "wanted"), Epoch: u64.Draw(r, "epoch"), Seq: u64.Draw(r, "seq")},
			Path: u8.Draw(r, "path"), Heard: u8.Draw(r, "heard"), Boot: u64.Draw(r, "boot"), Counter: u64.Draw(r, "counter"),
			EchoBoot: u64.Draw(r, "echo boot"), EchoCounter: u64.Draw(r, "echo"),
			Interval: time.Duration(rapid.IntRange(0, 1<<16-1).Draw(r, "interval")) * intervalUnit,
		}
		var got Heartbeat
		d := a.Seal(make([]byte, Size), &h)
		if err := b.Open(d, &got); err != nil || got != h {
			r.Fatalf("%v\n got %+v\nwant %+v", err, got, h)
		}
		d[rapid.IntRange(0, Size-1).Draw(r, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		if err := b.Open(d, &got); err == nil {
			r.Fatal("a changed heartbeat was opened")
		}
	})
}

// The encoding of version 1 stays as it is.
func TestGoldenHeartbeat(t *testing.T) {
	c, err := NewCodec(testKey(t, secret), "node-a", "node-b")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%x", c.Seal(make([]byte, Size), &Heartbeat{
		Word: Word{Flags: FlagIsolated, Mode: 2, Stance: 1, SessionsUp: 3, SessionsWanted: 4, Epoch: 5, Seq: 6},
		Path: 1, Heard: 3, Boot: 7, Counter: 8, EchoBoot: 9, EchoCounter: 10, Interval: 5 * ms,
	}))
	if got != golden {
		t.Errorf("\n got %s\nwant %s", got, golden)
	}
}

func FuzzOpen(f *testing.F) {
	c, err := NewCodec(testKey(f, secret), "a", "b")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(c.Seal(make([]byte, Size), &Heartbeat{})))
	f.Add([]byte("dP"))
	b, _ := NewCodec(testKey(f, secret), "b", "a")
	d := mustDetector(f, "b", "a", 1, 0)
	f.Fuzz(func(t *testing.T, data []byte) {
		var h Heartbeat
		err := b.Open(data, &h)
		if err == nil && len(data) != Size {
			t.Errorf("%d bytes were opened", len(data))
		}
		if err != nil && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrForged) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrAddress) {
			t.Error(err)
		}
		d.Receive(0, 0, data)
		_ = d.Events()
	})
}
