// Package logtest is the conformance suite of [eventlog.Log]: the exact
// contract, run against every implementation.
package logtest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"testing"
	"time"

	"dyad/eventlog"
)

// bound is how long any one step of the suite may take before it has failed.
const bound = 20 * time.Second

// Harness is an empty log under test, and what can be done to it. Run asks for
// a new one for each test; whoever opens it cleans up through t.
type Harness struct {
	Log eventlog.Log
	// Other, if given, opens a second handle on the same log, as the other node
	// has one.
	Other func(t *testing.T) eventlog.Log
	// Close closes Log. After it everything is refused with ErrClosed.
	Close func()
	// Compact, if given, throws away the store's history (never its events).
	Compact func(t *testing.T)
	// Reconnect, if given, cuts every connection of Log and restores it, or
	// restarts the store below it.
	Reconnect func(t *testing.T)
}

// Run runs the whole suite.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"Empty", empty},
		{"AppendAndRead", appendAndRead},
		{"ExpectedHead", expectedHead},
		{"ExpectedStreams", expectedStreams},
		{"Epochs", epochs},
		{"Idempotency", idempotency},
		{"AllOrNothing", allOrNothing},
		{"TooLarge", tooLarge},
		{"LargestBatch", largestBatch},
		{"ConcurrentWriters", concurrentWriters},
		{"ConcurrentConditional", concurrentConditional},
		{"ContextCancelled", contextCancelled},
		{"FollowFromStart", followFromStart},
		{"FollowFromMiddle", followFromMiddle},
		{"FollowCatchesUp", followCatchesUp},
		{"FollowEmpty", followEmpty},
		{"FollowDiverged", followDiverged},
		{"FollowManyAndSlow", followManyAndSlow},
		{"FollowAcrossCompaction", followAcrossCompaction},
		{"FollowAcrossReconnect", followAcrossReconnect},
		{"Trim", trim},
		{"TrimRefused", trimRefused},
		{"TrimBesideAppends", trimBesideAppends},
		{"Closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	return ctx
}

func draft(stream string, n int) eventlog.Draft {
	return eventlog.Draft{
		ID: fmt.Sprintf("%s-%d", stream, n), Type: eventlog.TypePeerSet, Version: 1, Stream: stream,
		Actor: eventlog.Actor{Name: "root", Auth: "unix"}, Source: eventlog.Source{Node: "node-a"},
		Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)),
	}
}

func keyed(stream string, n int, key string) eventlog.Draft {
	d := draft(stream, n)
	d.Key = key
	return d
}

func epochStarted(t *testing.T, n eventlog.Epoch) eventlog.Draft {
	t.Helper()
	d, err := eventlog.NewDraft(eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{Epoch: n, Mode: "PAIR"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func many(stream string, from, n int) []eventlog.Draft {
	out := make([]eventlog.Draft, n)
	for i := range out {
		out[i] = draft(stream, from+i)
	}
	return out
}

// put appends drafts without conditions at epoch 0.
func put(t *testing.T, l eventlog.Log, ds ...eventlog.Draft) []eventlog.Envelope {
	t.Helper()
	got, err := l.Append(testContext(t), eventlog.Batch{Drafts: ds})
	if err != nil {
		t.Fatalf("append of %d: %v", len(ds), err)
	}
	if len(got) != len(ds) {
		t.Fatalf("append of %d answered %d events", len(ds), len(got))
	}
	return got
}

func head(t *testing.T, l eventlog.Log) eventlog.Head {
	t.Helper()
	h, err := l.Head(testContext(t))
	if err != nil {
		t.Fatalf("head: %v", err)
	}
	return h
}

// all reads the whole log, and checks the chain and that the head is its end.
func all(t *testing.T, l eventlog.Log) []eventlog.Envelope {
	t.Helper()
	var out []eventlog.Envelope
	var at eventlog.Head
	for {
		page, err := l.Read(testContext(t), at.Seq, 1000)
		if err != nil {
			t.Fatalf("read after %d: %v", at.Seq, err)
		}
		if at, err = eventlog.VerifyRun(at, page); err != nil {
			t.Fatal(err)
		}
		out = append(out, page...)
		if len(page) == 0 {
			break
		}
	}
	if h := head(t, l); h != at {
		t.Fatalf("the head is %v, the last event read %v", h, at)
	}
	return out
}

// follower runs Follow step by step.
type follower struct {
	t    *testing.T
	at   eventlog.Head
	next func() ([]eventlog.Envelope, error, bool)
	stop func()
}

func follow(t *testing.T, l eventlog.Log, after eventlog.Head) *follower {
	t.Helper()
	f := &follower{t: t, at: after}
	f.next, f.stop = iter.Pull2(l.Follow(testContext(t), after))
	t.Cleanup(f.stop)
	return f
}

// step takes one step and checks that it follows the one before it.
func (f *follower) step() []eventlog.Envelope {
	f.t.Helper()
	run, err, ok := f.next()
	if !ok || err != nil {
		f.t.Fatalf("the follower at %d ended: %v", f.at.Seq, err)
	}
	if len(run) > eventlog.MaxPage {
		f.t.Fatalf("a step of %d events, at most %d", len(run), eventlog.MaxPage)
	}
	if f.at, err = eventlog.VerifyRun(f.at, run); err != nil {
		f.t.Fatal(err)
	}
	return run
}

// until steps until the follower has seen the given event.
func (f *follower) until(seq eventlog.Seq) {
	f.t.Helper()
	for f.at.Seq < seq {
		f.step()
	}
}

// caughtUp steps until the empty step.
func (f *follower) caughtUp() {
	f.t.Helper()
	for len(f.step()) > 0 {
	}
}
