// Package registertest is the one suite that every quorum.Register passes: a
// witness server, a file, a key in etcd, and the one in memory.
package registertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dyad/cluster/quorum"
	"dyad/eventlog"
)

// Opener opens the register under test for a cluster. Every call makes another
// handle on the same register, as another node would have one.
type Opener func(t testing.TB, cluster string) quorum.Register

// bound is how long one test may take.
const bound = time.Minute

// Pair is a pair's claim.
func Pair(cluster string, e eventlog.Epoch) quorum.Claim {
	return quorum.Claim{Cluster: cluster, Epoch: e, Mode: quorum.Pair, Seq: eventlog.Seq(e) * 10}
}

// Sole is the claim of a node alone.
func Sole(cluster string, e eventlog.Epoch, holder string) quorum.Claim {
	return quorum.Claim{Cluster: cluster, Epoch: e, Mode: quorum.Sole, Holder: holder, Seq: eventlog.Seq(e) * 10, Hash: "ab12"}
}

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, ctx context.Context, open Opener, cluster string)
	}{
		{"unknown", unknown},
		{"create", createOnce},
		{"swap", swaps},
		{"senseless", senseless},
		{"cancelled", cancelled},
		{"one winner", oneWinner},
		{"counter", counter},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			tc.test(t, ctx, open, fmt.Sprintf("c-%d", serial.Add(1)))
		})
	}
}

// serial gives every test a cluster of its own.
var serial atomic.Int64

func want(t *testing.T, what string, got quorum.Claim, err error, claim quorum.Claim, kind error) {
	t.Helper()
	if !errors.Is(err, kind) || got != claim {
		t.Fatalf("%s: %+v, %v; want %+v, %v", what, got, err, claim, kind)
	}
}

func unknown(t *testing.T, ctx context.Context, open Opener, id string) {
	r := open(t, id)
	got, err := r.Get(ctx)
	want(t, "get", got, err, quorum.Claim{}, quorum.ErrUnknown)
	got, err = r.Swap(ctx, Pair(id, 1), Sole(id, 2, "node-a"))
	want(t, "swap", got, err, quorum.Claim{}, quorum.ErrUnknown)
	got, err = r.Get(ctx)
	want(t, "get after a swap that had nothing to start from", got, err, quorum.Claim{}, quorum.ErrUnknown)
}

func createOnce(t *testing.T, ctx context.Context, open Opener, id string) {
	a, b := open(t, id), open(t, id)
	first := Pair(id, 3)
	got, err := a.Create(ctx, first)
	want(t, "create", got, err, first, nil)
	again := first
	again.Seq = 99
	got, err = b.Create(ctx, again)
	want(t, "the same from the other node", got, err, first, nil)
	got, err = b.Create(ctx, Pair(id, 4))
	want(t, "another", got, err, first, quorum.ErrMoved)
	got, err = b.Get(ctx)
	want(t, "get", got, err, first, nil)
	now := Pair(id, 9)
	got, err = quorum.Enrol(ctx, b, now)
	want(t, "enrol with a later epoch", got, err, now, nil)
	got, err = quorum.Enrol(ctx, b, Sole(id, 9, "node-a"))
	want(t, "enrol with another claim at the epoch", got, err, now, quorum.ErrMoved)
}

func swaps(t *testing.T, ctx context.Context, open Opener, id string) {
	a, b := open(t, id), open(t, id)
	pair, sole := Pair(id, 1), Sole(id, 2, "node-a")
	if _, err := a.Create(ctx, pair); err != nil {
		t.Fatal(err)
	}
	got, err := a.Swap(ctx, pair, sole)
	want(t, "swap", got, err, sole, nil)
	got, err = a.Swap(ctx, pair, sole)
	want(t, "the same again", got, err, sole, nil)
	got, err = b.Swap(ctx, pair, Sole(id, 2, "node-b"))
	want(t, "the other node, too late", got, err, sole, quorum.ErrMoved)
	got, err = b.Get(ctx)
	want(t, "what the other node reads", got, err, sole, nil)
	back := Pair(id, 3)
	got, err = a.Swap(ctx, sole, back)
	want(t, "the return", got, err, back, nil)
	got, err = a.Swap(ctx, pair, sole)
	want(t, "an old swap, repeated after the return", got, err, back, quorum.ErrMoved)
}

func senseless(t *testing.T, ctx context.Context, open Opener, id string) {
	r := open(t, id)
	pair := Pair(id, 5)
	if _, err := r.Create(ctx, pair); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]quorum.Claim{
		"backwards":       Sole(id, 4, "node-a"),
		"the same epoch":  Sole(id, 5, "node-a"),
		"another cluster": Sole(id+"x", 6, "node-a"),
		"no holder":       {Cluster: id, Epoch: 6, Mode: quorum.Sole},
		"no mode":         {Cluster: id, Epoch: 6},
	} {
		if _, err := r.Swap(ctx, pair, to); !errors.Is(err, quorum.ErrBadClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.Create(ctx, quorum.Claim{Cluster: id}); !errors.Is(err, quorum.ErrBadClaim) {
		t.Errorf("an empty first claim: %v", err)
	}
	got, err := r.Get(ctx)
	want(t, "get", got, err, pair, nil)
}

func cancelled(t *testing.T, ctx context.Context, open Opener, id string) {
	r := open(t, id)
	if _, err := r.Create(ctx, Pair(id, 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.Get(ctx); !errors.Is(err, quorum.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	if _, err := r.Swap(ctx, Pair(id, 1), Sole(id, 2, "node-a")); !errors.Is(err, quorum.ErrUnavailable) {
		t.Errorf("swap: %v", err)
	}
}

// oneWinner: of many nodes that ask for the same epoch at the same moment one is
// told yes, and everybody else is told who.
func oneWinner(t *testing.T, ctx context.Context, open Opener, id string) {
	const nodes, rounds = 16, 5
	regs := make([]quorum.Register, nodes)
	for i := range regs {
		regs[i] = open(t, id)
	}
	stands, err := regs[0].Create(ctx, Pair(id, 1))
	if err != nil {
		t.Fatal(err)
	}
	for range rounds {
		won := make([]quorum.Claim, nodes)
		errs := make([]error, nodes)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i, r := range regs {
			wg.Go(func() {
				<-start
				won[i], errs[i] = r.Swap(ctx, stands, Sole(id, stands.Epoch+1, fmt.Sprintf("node-%d", i)))
			})
		}
		close(start)
		wg.Wait()
		winners := 0
		for i, err := range errs {
			switch {
			case err == nil:
				winners++
				if won[i].Holder != fmt.Sprintf("node-%d", i) {
					t.Errorf("node-%d was told yes for %s", i, won[i])
				}
			case !errors.Is(err, quorum.ErrMoved):
				t.Fatalf("node-%d: %v", i, err)
			}
		}
		now, err := regs[0].Get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range won {
			if won[i] != now {
				t.Errorf("node-%d was told that %s stands, and it is %s", i, won[i], now)
			}
		}
		if winners != 1 {
			t.Fatalf("%d nodes were told yes at epoch %d", winners, now.Epoch)
		}
		stands = now
	}
}

// counter: each node raises the epoch until all of them together have done so
// often enough. Every yes is one epoch, so the epochs count them, and no epoch
// has two holders.
func counter(t *testing.T, ctx context.Context, open Opener, id string) {
	const nodes, each = 8, 10
	first := open(t, id)
	if _, err := first.Create(ctx, Pair(id, 1)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	holders := map[eventlog.Epoch]string{}
	var wg sync.WaitGroup
	for i := range nodes {
		r, name := open(t, id), fmt.Sprintf("node-%d", i)
		wg.Go(func() {
			seen := eventlog.Epoch(0)
			for done := 0; done < each && ctx.Err() == nil; {
				stands, err := r.Get(ctx)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if stands.Epoch < seen {
					t.Errorf("%s read epoch %d after %d", name, stands.Epoch, seen)
				}
				to := Sole(id, stands.Epoch+1, name)
				now, err := r.Swap(ctx, stands, to)
				seen = now.Epoch
				if errors.Is(err, quorum.ErrMoved) {
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				done++
				mu.Lock()
				if other, dup := holders[to.Epoch]; dup {
					t.Errorf("epoch %d was given to %s and %s", to.Epoch, other, name)
				}
				holders[to.Epoch] = name
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	now, err := first.Get(ctx)
	if err != nil || now.Epoch != 1+nodes*each || len(holders) != nodes*each || holders[now.Epoch] != now.Holder {
		t.Errorf("%d swaps went through and epoch %d stands, held by %s (%v)", len(holders), now.Epoch, now.Holder, err)
	}
}
