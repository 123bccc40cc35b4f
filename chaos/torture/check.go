package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dyad/eventlog"
)

// ErrBroken: a promise of the log was broken.
var ErrBroken = errors.New("the log broke its promise")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBroken}, args...)...)
}

// maxTold bounds how many broken promises of one kind are told one by one.
const maxTold = 5

// ledger is what the log is known to hold, and must hold for ever.
type ledger struct {
	head eventlog.Head
	revs map[string]uint64
	keys map[string]eventlog.Seq
}

func newLedger() *ledger {
	return &ledger{revs: map[string]uint64{}, keys: map[string]eventlog.Seq{}}
}

// readAfter reads a node's log behind head to its end, verified.
func (n *node) readAfter(ctx context.Context, head eventlog.Head) ([]eventlog.Envelope, error) {
	var out []eventlog.Envelope
	for {
		run, err := n.logs[0].Read(ctx, head.Seq, eventlog.MaxPage)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.name, err)
		}
		if len(run) == 0 {
			return out, nil
		}
		if head, err = eventlog.VerifyRun(head, run); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBroken, n.name, err)
		}
		out = append(out, run...)
	}
}

// check holds what both nodes have against what the round's writers were told,
// and moves the ledger on. It returns how many events stand that were not
// acknowledged when they were written.
func (k *ledger) check(ctx context.Context, nodes [2]*node, ops []op) (late int, err error) {
	a, err := nodes[0].readAfter(ctx, k.head)
	if err != nil {
		return 0, err
	}
	b, err := k.same(ctx, nodes[1], len(a))
	if err != nil {
		return 0, err
	}
	for i := range a {
		if a[i].Hash != b[i].Hash {
			return 0, broken("event %d differs between the nodes", a[i].Seq)
		}
	}
	ops, late, err = k.held(a, ops)
	if err != nil {
		return late, err
	}
	if err := judge(ops, k.revs); err != nil {
		return late, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	for _, e := range a {
		k.keys[e.Key], k.revs[e.Stream] = e.Seq, e.StreamRev
	}
	if len(a) > 0 {
		k.head = eventlog.HeadOf(a[len(a)-1])
	}
	return late, nil
}

// same reads n behind the ledger once it has as many events as the other node.
// A follower may be a moment behind; nobody writes any more.
func (k *ledger) same(ctx context.Context, n *node, want int) ([]eventlog.Envelope, error) {
	ctx, cancel := context.WithTimeout(ctx, stepBound)
	defer cancel()
	for {
		got, err := n.readAfter(ctx, k.head)
		if err != nil || len(got) == want {
			return got, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, broken("%s holds %d new events, the other node %d", n.name, len(got), want)
		}
	}
}

// held checks that everything acknowledged stands in run, in the place that its
// writer was told, and once; and that nothing stands that nobody wrote. It
// returns ops with the revisions that the events got.
func (k *ledger) held(run []eventlog.Envelope, ops []op) ([]op, int, error) {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	first := k.head.Seq + 1
	places := map[string]eventlog.Seq{}
	for _, e := range run {
		if old, twice := k.keys[e.Key]; twice {
			say("event %d repeats %s, which is event %d", e.Seq, e.Key, old)
		}
		if old, twice := places[e.Key]; twice {
			say("event %d repeats %s, which is event %d", e.Seq, e.Key, old)
		}
		places[e.Key] = e.Seq
	}
	late := 0
	ops = slices.Clone(ops)
	for i := range ops {
		o := &ops[i]
		if o.outcome != appended {
			if _, stands := places[o.key]; stands && o.outcome == conflict {
				say("%s was refused and stands", o.key)
			}
			continue
		}
		if o.hash == "" {
			late++
		}
		if o.seq < first || o.seq >= first+eventlog.Seq(len(run)) {
			say("event %d (%s) was acknowledged and is lost: the log has %d to %d", o.seq, o.key, first, first+eventlog.Seq(len(run))-1)
			continue
		}
		e := run[o.seq-first]
		if e.Key != o.key || o.hash != "" && e.Hash != o.hash {
			say("event %d (%s) was acknowledged and is lost: in its place stands %s", o.seq, o.key, e.Key)
		}
		o.rev = e.StreamRev
		delete(places, o.key)
	}
	for key, seq := range places {
		if !strings.HasPrefix(key, "epoch-") {
			say("event %d (%s) stands and no writer was told so", seq, key)
		}
	}
	if len(wrong) == 0 {
		return ops, late, nil
	}
	return ops, late, broken("%d times\n  %s", len(wrong), strings.Join(wrong[:min(len(wrong), maxTold)], "\n  "))
}
