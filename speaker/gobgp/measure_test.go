package gobgp_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"dyad/projections"
	"dyad/speaker"
	"dyad/speaker/gobgp"
)

// TestMeasure tells how long the steps of a session's life take, with a router
// in the same process: upper bounds, as both sides share the machine.
func TestMeasure(t *testing.T) {
	port := freePort(t)
	a := newRouter(t, "127.0.0.2", port, routerASN, ourASN)
	s := newSpeaker(t, gobgp.Options{RemotePort: port})
	w := speaker.Wish{RouterID: ourID, Peers: []speaker.Peer{peerOf(a, ourASN)}, Routes: []speaker.Route{}}
	start := time.Now()
	mustSet(t, s, w)
	awaitUp(t, s, a.ip)
	t.Logf("first session up after %v", time.Since(start))

	received := func(n int) func() bool {
		return func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return len(a.seen) >= n
		}
	}
	total := 0
	for _, n := range []int{1_000, 10_000} {
		for _, step := range []struct {
			name string
			attr projections.Attributes
		}{{"announce", normal}, {"change", better}} {
			w.Routes = make([]speaker.Route, n)
			for i := range w.Routes {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 10), byte(i >> 8), byte(i)}), 32)
				w.Routes[i] = speaker.Route{Peer: a.ip, Prefix: p, Attributes: step.attr}
			}
			start = time.Now()
			c := mustSet(t, s, w)
			set := time.Since(start)
			total += c.Announced + c.Changed + c.Withdrawn
			await(t, "the router got everything", received(total))
			t.Logf("%s %d: Set %v, router has the last after %v (%+v)", step.name, n, set, time.Since(start), c)
		}
	}

	var took []time.Duration
	for i := range 50 {
		w.Routes = slices.Clone(w.Routes)
		w.Routes[5000].Attributes.MED = uint32(1000 + i)
		total++
		start = time.Now()
		mustSet(t, s, w)
		for !received(total)() {
			if time.Since(start) > 10*time.Second {
				t.Fatal("the change did not arrive")
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("one change among 10,000, Set to UPDATE in the router: median %v, min %v, max %v", took[25], took[0], took[49])
}
