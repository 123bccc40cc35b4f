package detect

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"dyad/failover/detect/memnet"
	"dyad/projections"
)

// A rotation in three rings costs no death; a key that the other node does not
// know does.
func TestKeysRotateWhileGossipGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(3)
		a, b := start(t, net, "a", "1"), start(t, net, "b", "1")
		defer end(a, b)
		time.Sleep(10 * time.Second)
		alive := func(when string) {
			t.Helper()
			time.Sleep(5 * time.Second)
			if a.verdict("b") != projections.Alive || b.verdict("a") != projections.Alive {
				t.Fatalf("%s: %s, %s", when, a.verdict("b"), b.verdict("a"))
			}
		}
		alive("at the start")
		a.forget()
		old, next, stranger := make([]byte, 32), bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 32)
		for i, ring := range [][][]byte{{old, next}, {next, old}, {next}} {
			for _, n := range []*member{b, a} {
				if err := n.d.SetKeys(ring); err != nil {
					t.Fatal(err)
				}
				alive([]string{"both are known", "the new one is used", "the old one is gone"}[i])
			}
		}
		if len(a.d.ring.GetKeys()) != 1 || !bytes.Equal(a.d.ring.GetPrimaryKey(), next) {
			t.Error("the ring is not the last one that was set")
		}
		if err := a.d.SetKeys([][]byte{stranger}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if a.verdict("b") == projections.Alive {
			t.Error("the nodes hear each other without a key in common")
		}
		if a.d.SetKeys(nil) == nil || a.d.SetKeys([][]byte{{1, 2, 3}}) == nil {
			t.Error("no keys, or a short one, were taken")
		}
	})
}
