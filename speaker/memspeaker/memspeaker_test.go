package memspeaker_test

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"dyad/speaker"
	"dyad/speaker/memspeaker"
)

var _ speaker.Speaker = (*memspeaker.Speaker)(nil)

func TestSessionsFollowTheScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		s := memspeaker.New(memspeaker.Options{Connect: 2 * time.Second})
		var got []speaker.Session
		s.Notify(func(v speaker.Session) { got = append(got, v) })
		w := speaker.Wish{
			Peers:  []speaker.Peer{{Address: b, PeerASN: 2, SelfASN: 1, HoldTime: 9}, {Address: a, PeerASN: 2, SelfASN: 1}},
			Routes: []speaker.Route{{Peer: a, Prefix: netip.MustParsePrefix("10.0.0.1/32")}, {Peer: b, Prefix: netip.MustParsePrefix("10.0.0.1/32")}},
		}
		c, err := s.Set(t.Context(), w)
		if err != nil || c.Announced != 2 {
			t.Fatalf("Set = %+v, %v", c, err)
		}
		if n := len(s.Visible()); n != 0 {
			t.Fatalf("%d routes visible before any session is up", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(s.Visible()); n != 2 {
			t.Fatalf("%d routes visible, want 2", n)
		}
		if !s.Fail(a, "gone") || s.Fail(a, "gone") {
			t.Fatal("Fail must take a session down once")
		}
		if vs := s.Sessions(); len(vs) != 2 || vs[0].State != speaker.Idle || vs[0].Flaps != 1 || vs[0].LastError != "gone" ||
			vs[1].State != speaker.Established || vs[1].Advertised != 1 || vs[1].HoldTime != 9 {
			t.Fatalf("sessions = %+v", vs)
		}
		w.Peers, w.Routes = w.Peers[:1], nil
		if c, err = s.Set(t.Context(), w); err != nil || c.Withdrawn != 1 {
			t.Fatalf("removing a peer: %+v, %v; its route must go, the other one stay", c, err)
		}
		synctest.Wait()
		if len(got) != 3 {
			t.Fatalf("%d notifications, want 3: %+v", len(got), got)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Set(t.Context(), w); !errors.Is(err, memspeaker.ErrClosed) {
			t.Fatalf("Set after Close: %v", err)
		}
		if len(s.Visible()) != 0 {
			t.Fatal("routes visible after Close")
		}
	})
}
