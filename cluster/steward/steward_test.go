package steward

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dyad/cluster/quorum"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a steward in virtual time with a world that a test sets.
type stage struct {
	mu      sync.Mutex
	reading Reading
	claim   quorum.Claim
	witness bool // there is one
	away    bool // it does not answer
	saved   []quorum.Record
	done    []quorum.Deed
	full    error         // why the disk can't be written
	fails   int           // so many deeds fail first
	slow    time.Duration // a look takes so long after it has sensed

	*Steward
	end func()
}

func pairReading() Reading {
	return Reading{
		Log:   quorum.LogSight{Epoch: 1, Mode: quorum.Pair, Self: true, Others: true, Writable: true, Shared: true},
		Peer:  quorum.PeerSight{Name: "node-b", Epoch: 1, Mode: quorum.Pair},
		Heard: true, Routers: true, Answered: true,
	}
}

// open begins with a pair that is well; the caller runs in a synctest bubble.
func open(authority quorum.Authority) *stage {
	st := &stage{reading: pairReading()}
	st.reading.Authority = authority
	deed := func(_ context.Context, m quorum.Move) (*quorum.Record, error) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.done = append(st.done, m.Do)
		if st.fails > 0 {
			st.fails--
			return nil, errors.New("the deed fails")
		}
		switch m.Do {
		case quorum.Reform:
			st.reading.Log = quorum.LogSight{Epoch: m.Epoch, Mode: quorum.Sole, Self: true, Writable: true}
			return &quorum.Record{Mode: quorum.Sole, Epoch: m.Epoch}, nil
		case quorum.AskWitness, quorum.TellWitness:
			if st.away {
				return nil, errors.New("the witness does not answer")
			}
			if m.To.Epoch > 0 && st.claim.Same(m.From) {
				st.claim = m.To
			}
		}
		return nil, nil
	}
	st.Steward = New(Config{
		Self: "node-a", Record: quorum.Record{Mode: quorum.Pair, Epoch: 1}, HoldDown: 3 * time.Second,
		Look: func(context.Context) Reading {
			st.mu.Lock()
			r, slow := st.reading, st.slow
			st.mu.Unlock()
			time.Sleep(slow)
			return r
		},
		Save: func(m quorum.Move, _ quorum.Sight) error {
			st.mu.Lock()
			defer st.mu.Unlock()
			if st.full != nil {
				return st.full
			}
			st.saved = append(st.saved, m.Record)
			return nil
		},
		Claim: func() (quorum.Claim, bool, bool) {
			st.mu.Lock()
			defer st.mu.Unlock()
			return st.claim, st.witness && !st.away, st.witness
		},
		Deeds: map[quorum.Deed]func(context.Context, quorum.Move) (*quorum.Record, error){
			quorum.Reform: deed, quorum.AskWitness: deed, quorum.AskFence: deed, quorum.TellWitness: deed,
		},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { st.Run(ctx) })
	st.end = func() { cancel(); wg.Wait() }
	return st
}

func (st *stage) set(f func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f()
}

// peerDies silences the peer and takes the quorum with it.
func (st *stage) peerDies() {
	st.set(func() { st.reading.Heard, st.reading.Log.Writable = false, false })
}

func (st *stage) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (st *stage) mode(t *testing.T, want quorum.Mode, writable bool) {
	t.Helper()
	s := st.Status()
	if s.Mode != want || s.Writable != writable {
		t.Fatalf("%s writable %v, want %s %v: %s; try: %s", s.Mode, s.Writable, want, writable, s.Why, s.Fix)
	}
	if !s.Writable && (s.Why == "" || s.Fix == "") {
		t.Fatalf("not writable, and nothing said: %+v", s)
	}
}

func TestWitnessDecidesAfterTheHoldDownAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(quorum.ByWitness)
		defer st.end()
		st.witness, st.claim = true, quorum.Claim{Cluster: "c", Epoch: 1, Mode: quorum.Pair}
		st.pass(time.Second)
		st.mode(t, quorum.Pair, true)
		st.peerDies()
		st.pass(2900 * time.Millisecond)
		st.mode(t, quorum.Suspended, false)
		st.pass(500 * time.Millisecond)
		st.mode(t, quorum.Sole, true)
		if st.claim.Holder != "node-a" || st.claim.Epoch != 2 {
			t.Errorf("the witness holds %+v", st.claim)
		}
		if len(st.saved) != 2 || st.saved[0].Step != quorum.Granted || st.saved[1] != (quorum.Record{Mode: quorum.Sole, Epoch: 2}) {
			t.Errorf("saved %+v", st.saved)
		}
	})
}

func TestSilentWitnessGivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(quorum.ByWitness)
		defer st.end()
		st.witness, st.away = true, true
		st.pass(time.Second)
		st.peerDies()
		st.pass(time.Minute)
		st.mode(t, quorum.Suspended, false)
		for _, d := range st.done {
			if d == quorum.Reform {
				t.Fatal("the store was reformed without a word")
			}
		}
	})
}

func TestTorNeedsRoutersWithoutABreakAndNoReboot(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*stage)
		during func(*stage)
		want   quorum.Mode
	}{
		"unbroken":  {func(*stage) {}, func(*stage) {}, quorum.Sole},
		"no answer": {func(st *stage) { st.reading.Answered = false }, func(*stage) {}, quorum.Suspended},
		"late answer": {
			func(st *stage) { st.reading.Answered = false },
			func(st *stage) { st.reading.Answered = true }, quorum.Suspended,
		},
		"router lost":  {func(*stage) {}, func(st *stage) { st.reading.Routers = false }, quorum.Suspended},
		"beacon":       {func(*stage) {}, func(st *stage) { st.reading.Beacon = true }, quorum.Suspended},
		"after reboot": {func(st *stage) { st.reading.Log.Writable, st.reading.Heard = false, false }, func(*stage) {}, quorum.Stale},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := open(quorum.ByTor)
				defer st.end()
				st.set(func() { c.before(st) })
				st.pass(time.Second)
				st.peerDies()
				st.pass(2 * answerBound)
				st.set(func() { c.during(st) })
				st.pass(300 * time.Millisecond)
				st.set(func() { st.reading.Routers = true }) // back, but there was a break
				st.pass(time.Minute)
				st.mode(t, c.want, c.want == quorum.Sole)
			})
		})
	}
}

// The peer is alive as long as its beacon comes, and no longer.
func TestTorWaitsForTheBeaconToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(quorum.ByTor)
		defer st.end()
		st.pass(time.Second)
		st.peerDies()
		st.set(func() { st.reading.Beacon = true })
		st.pass(time.Minute)
		st.mode(t, quorum.Suspended, false)
		if why := st.Status().Why; !strings.Contains(why, "beacon") {
			t.Errorf("why: %s", why)
		}
		st.set(func() { st.reading.Beacon = false })
		st.pass(time.Second)
		st.mode(t, quorum.Sole, true)
	})
}

func TestOperatorsWordIsTakenOnceAndOnlyWhileThePeerIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(quorum.ByOperator)
		defer st.end()
		st.pass(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := st.Takeover(ctx, quorum.Word{Peer: "node-b"}); err == nil {
			t.Error("taken over from a peer that is heard")
		}
		st.peerDies()
		st.pass(time.Hour)
		st.mode(t, quorum.Suspended, false) // nobody decides by himself
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := st.Takeover(ctx, quorum.Word{Peer: "node-b", Actor: "root"}); err != nil {
			t.Fatal(err)
		}
		st.mode(t, quorum.Sole, true)
		st.pass(time.Minute)
		if n := len(st.saved); n != 2 {
			t.Errorf("%d records saved, want 2: %+v", n, st.saved)
		}
	})
}

func TestNothingIsDoneBeforeTheRecordIsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(quorum.ByTor)
		defer st.end()
		st.pass(time.Second)
		st.set(func() { st.full = errors.New("no space left on device") })
		st.peerDies()
		st.pass(10 * time.Second)
		st.mode(t, quorum.Suspended, false)
		if len(st.done) != 0 {
			t.Fatalf("did %v without a durable record", st.done)
		}
		st.set(func() { st.full = nil; st.fails = 3 })
		st.pass(20 * time.Second)
		st.mode(t, quorum.Sole, true)
	})
}

// The word is given while a look is under way that still heard the peer: the next
// one counts.
func TestAWordOutlivesALookThatBeganBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(quorum.ByOperator)
		defer st.end()
		st.set(func() { st.slow = 300 * time.Millisecond })
		st.pass(1100 * time.Millisecond) // in the middle of a look
		st.peerDies()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := st.Takeover(ctx, quorum.Word{Peer: "node-b", Actor: "root"}); err != nil {
			t.Fatal(err)
		}
		st.mode(t, quorum.Sole, true)
	})
}

// A peer that came back, however short, voids what the fence read back: it was on
// since.
func TestAPeerThatStartedAgainIsNoLongerFenced(t *testing.T) {
	var w watch
	now := time.Now()
	pair := quorum.Record{Mode: quorum.Pair, Epoch: 1}
	r := pairReading()
	r.Boot = "b1"
	w.see(now, pair, r)
	r.Heard = false
	w.see(now, pair, r)
	w.fenced = true
	if s := w.see(now.Add(5*time.Second), pair, r); !s.Fenced || s.Peer.Silent != 5*time.Second {
		t.Fatalf("fenced %v, silent for %v", s.Fenced, s.Peer.Silent)
	}
	r.Boot = "b2"
	if s := w.see(now.Add(6*time.Second), pair, r); s.Fenced || s.Peer.Silent > 1 {
		t.Errorf("after a start that was heard of: fenced %v, silent for %v", s.Fenced, s.Peer.Silent)
	}
}

// A writer is proven by its own start, alone or not, and stays it while it gives
// the other node a vote.
func TestWhoIsProven(t *testing.T) {
	sole := quorum.Record{Mode: quorum.Sole, Epoch: 2}
	pairing := quorum.Record{Mode: quorum.Sole, Epoch: 2, Step: quorum.Pairing, Next: 3}
	granted := quorum.Record{Mode: quorum.Sole, Epoch: 2, Step: quorum.Granted, Next: 3, By: quorum.ByOperator}
	for name, c := range map[string]struct {
		first  quorum.Record
		writes bool
		then   quorum.Record
		want   bool
	}{
		"alone":                     {sole, true, sole, true},
		"alone, and gives a vote":   {sole, true, pairing, true},
		"gave a vote, and restarts": {pairing, false, pairing, false},
		"and both write":            {pairing, true, pairing, true},
		"at another epoch":          {sole, true, quorum.Record{Mode: quorum.Pair, Epoch: 3}, false},
		"on its way":                {granted, true, granted, false},
	} {
		var w watch
		r := pairReading()
		r.Log.Writable = c.writes
		w.see(time.Now(), c.first, r)
		r.Log.Writable = false
		if s := w.see(time.Now(), c.then, r); s.Proven != c.want {
			t.Errorf("%s: proven %v, want %v", name, s.Proven, c.want)
		}
	}
}
