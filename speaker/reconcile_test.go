package speaker_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dyad/speaker"
	"dyad/speaker/memspeaker"
)

// fake fails as long as fail says, takes its time, and counts.
type fake struct {
	*memspeaker.Speaker
	took time.Duration
	fail func(w speaker.Wish) error
	seen []netip.Addr
	at   []time.Time
}

func newFake(t *testing.T) *fake {
	f := &fake{Speaker: memspeaker.New(memspeaker.Options{})}
	t.Cleanup(func() { _ = f.Speaker.Close(context.Background()) })
	return f
}

func (f *fake) Set(ctx context.Context, w speaker.Wish) (speaker.Change, error) {
	f.seen = append(f.seen, w.RouterID)
	f.at = append(f.at, time.Now())
	select {
	case <-time.After(f.took):
	case <-ctx.Done():
		return speaker.Change{}, ctx.Err()
	}
	if f.fail != nil {
		if err := f.fail(w); err != nil {
			return speaker.Change{}, err
		}
	}
	return f.Speaker.Set(ctx, w)
}

func wish(n byte) speaker.Wish {
	peer := netip.MustParseAddr("192.0.2.1")
	w := speaker.Wish{RouterID: netip.AddrFrom4([4]byte{10, 0, 0, n}), Peers: []speaker.Peer{{Address: peer, PeerASN: 2, SelfASN: 1}}}
	for i := range n {
		w.Routes = append(w.Routes, speaker.Route{Peer: peer, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, 0, i}), 32)})
	}
	return w
}

var quiet = slog.New(slog.DiscardHandler)

func TestReconcilerSetsTheWishAndTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.took = 3 * time.Millisecond
		type done struct {
			gen uint64
			c   speaker.Change
			at  time.Time
			err error
		}
		var got []done
		r := speaker.NewReconciler(f, speaker.Options{Log: quiet, OnDone: func(gen uint64, c speaker.Change, at time.Time, err error) {
			got = append(got, done{gen, c, at, err})
		}})
		start := time.Now()
		if gen := r.Want(wish(5)); gen != 1 {
			t.Fatalf("generation %d", gen)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		st := r.Status()
		if st.Generation != 1 || st.Done != 1 || st.Last.Announced != 5 || st.Took != 3*time.Millisecond || st.LastError != "" {
			t.Fatalf("status %+v", st)
		}
		if len(got) != 1 || got[0].gen != 1 || got[0].c.Announced != 5 || got[0].err != nil || got[0].at.Sub(start) != 3*time.Millisecond {
			t.Fatalf("told %+v", got)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReconcilerSkipsSupersededWishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.took = time.Second
		r := speaker.NewReconciler(f, speaker.Options{Log: quiet})
		r.Want(wish(1))
		synctest.Wait() // the first Set runs
		before := time.Now()
		for n := byte(2); n <= 9; n++ {
			r.Want(wish(n))
		}
		if time.Since(before) != 0 {
			t.Fatal("Want blocked")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(f.seen) != 2 || f.seen[1] != wish(9).RouterID {
			t.Fatalf("tried %v, want the first and the newest only", f.seen)
		}
		if st := r.Status(); st.Done != 9 {
			t.Fatalf("status %+v", st)
		}
		_ = r.Close(t.Context())
	})
}

func TestReconcilerRetriesWithBoundedBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		fails := 0
		f.fail = func(speaker.Wish) error {
			if fails < 6 {
				fails++
				return errors.New("engine says no")
			}
			return nil
		}
		var errs int
		r := speaker.NewReconciler(f, speaker.Options{
			Log: quiet, RetryMin: 100 * time.Millisecond, RetryMax: 400 * time.Millisecond,
			OnDone: func(_ uint64, _ speaker.Change, _ time.Time, err error) {
				if err != nil {
					errs++
				}
			},
		})
		r.Want(wish(3))
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		if st := r.Status(); st.Attempts != 2 || !strings.Contains(st.LastError, "engine says no") || st.Done != 0 {
			t.Fatalf("status %+v", st)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var pauses []time.Duration
		for i := 1; i < len(f.at); i++ {
			pauses = append(pauses, f.at[i].Sub(f.at[i-1])/time.Millisecond)
		}
		want := []time.Duration{100, 200, 400, 400, 400, 400}
		if len(pauses) != len(want) {
			t.Fatalf("pauses %v", pauses)
		}
		for i := range want {
			if pauses[i] != want[i] {
				t.Fatalf("pauses %v, want %v", pauses, want)
			}
		}
		if st := r.Status(); st.Done != 1 || st.LastError != "" || st.Attempts != 0 || errs != 6 {
			t.Fatalf("status %+v, %d errors told", st, errs)
		}
		_ = r.Close(t.Context())
	})
}

func TestReconcilerTriesANewWishAtOnceWhileBackingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.fail = func(w speaker.Wish) error {
			if w.RouterID == wish(1).RouterID {
				return errors.New("never")
			}
			return nil
		}
		r := speaker.NewReconciler(f, speaker.Options{Log: quiet, RetryMin: time.Hour, RetryMax: time.Hour})
		r.Want(wish(1))
		synctest.Wait()
		r.Want(wish(2))
		synctest.Wait()
		if st := r.Status(); st.Done != 2 {
			t.Fatalf("a new wish waited for the old one's pause: %+v", st)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if len(f.seen) != 2 {
			t.Fatalf("tried %v after all was done", f.seen)
		}
		_ = r.Close(t.Context())
	})
}

func TestReconcilerBoundsASetAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.took = time.Hour
		r := speaker.NewReconciler(f, speaker.Options{Log: quiet, SetTimeout: 2 * time.Second, RetryMin: time.Minute})
		r.Want(wish(1))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if st := r.Status(); st.Attempts != 1 {
			t.Fatalf("a hung Set was not given up: %+v", st)
		}
		r.Want(wish(2)) // hangs again
		synctest.Wait()
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := r.Status(); st.Done != 0 {
			t.Fatalf("%+v", st)
		}
	})
}
