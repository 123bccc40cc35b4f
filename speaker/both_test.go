package speaker_test

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dyad/projections"
	"dyad/speaker"
	"dyad/speaker/memspeaker"
)

// fakeLayer2 notes what it is told, and what BGP had been told by then.
type fakeLayer2 struct {
	mu     sync.Mutex
	claims []speaker.Claim
	bgp    *memspeaker.Speaker
	routes int // of the BGP speaker when Set came
}

func (f *fakeLayer2) Set(_ context.Context, w speaker.Wish) (speaker.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.Claims != nil {
		f.claims, f.routes = slices.Clone(w.Claims), len(f.bgp.Wish().Routes)
	}
	return speaker.Change{}, nil
}

func (f *fakeLayer2) now() []speaker.Claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.claims
}

func (f *fakeLayer2) Sessions() []speaker.Session       { return nil }
func (f *fakeLayer2) Notify(func(speaker.Session))      {}
func (f *fakeLayer2) Close(context.Context) error       { return nil }
func (f *fakeLayer2) Holdings() []speaker.Holding       { return nil }
func (f *fakeLayer2) Trouble() []string                 { return nil }
func (f *fakeLayer2) NotifyMoves(f2 func(speaker.Move)) {}

var (
	router  = netip.MustParseAddr("10.0.0.1")
	address = netip.MustParseAddr("10.0.0.50")
)

func byBGP() speaker.Wish {
	return speaker.Wish{
		RouterID: router, Peers: []speaker.Peer{{Address: router, PeerASN: 1, SelfASN: 2}},
		Routes: []speaker.Route{{Peer: router, Prefix: netip.PrefixFrom(address, 32)}}, Claims: []speaker.Claim{},
	}
}

func byLayer2() speaker.Wish {
	return speaker.Wish{
		RouterID: router, Routes: []speaker.Route{},
		Claims: []speaker.Claim{{Interface: "eth0", Address: address, Layer2Claim: projections.Layer2Claim{Mode: projections.ClaimOwn, Firm: true, Preferred: true}}},
	}
}

// An address changes from BGP to layer 2 and back, and is never without both.
func TestAnAddressIsNeverWithoutBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bgp := memspeaker.New(memspeaker.Options{Connect: 3 * time.Second})
		l2 := &fakeLayer2{bgp: bgp}
		b := speaker.NewBoth(bgp, l2, 0)
		set := func(w speaker.Wish) {
			t.Helper()
			if _, err := b.Set(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		set(byBGP())
		if c := l2.now(); len(c) != 0 {
			t.Errorf("a new address by BGP alone, and claimed: %+v", c)
		}
		time.Sleep(10 * time.Second)

		set(byLayer2())
		if c := l2.now(); len(c) != 1 || !c[0].Known || l2.routes != 1 {
			t.Errorf("claimed %+v while BGP had %d routes", c, l2.routes)
		}
		if n := len(bgp.Wish().Routes); n != 0 {
			t.Errorf("%d routes are left", n)
		}

		set(byBGP()) // the session takes 3 s
		for range 2 {
			if c := l2.now(); len(c) != 1 || c[0].Mode != projections.ClaimSpare || !c[0].Preferred {
				t.Errorf("no router listens, and claimed: %+v", c)
			}
			time.Sleep(time.Second)
			set(byBGP())
		}
		time.Sleep(1500 * time.Millisecond) // up for half a second
		if c := l2.now(); len(c) != 1 {
			t.Errorf("a router has just been told, and claimed: %+v", c)
		}
		time.Sleep(speaker.DefaultSettle)
		synctest.Wait()
		if c := l2.now(); len(c) != 0 {
			t.Errorf("routers have it, and claimed: %+v", c)
		}

		set(byLayer2())
		set(byBGP())
		empty := byBGP()
		empty.Routes = []speaker.Route{}
		set(empty) // the service is gone
		if c := l2.now(); len(c) != 0 {
			t.Errorf("nobody is to have it, and claimed: %+v", c)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
