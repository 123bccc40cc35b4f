package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/eventlog"
	"dyad/eventlog/segment"
	"dyad/projections"
	"dyad/projections/audit"
)

// segments is a store of segments of ten events.
type segments struct{ *segment.Store }

const tenEvents = 10

func (s segments) Size() int                       { return tenEvents }
func (s segments) Cut(run []eventlog.Envelope) int { return segment.Cut(run, tenEvents) }

func (s segments) Marshal(cluster string, prev eventlog.Head, run []eventlog.Envelope) ([]byte, error) {
	b, _, err := segment.Marshal(cluster, prev, run)
	return b, err
}

func (s segments) Seal(cluster string, run []eventlog.Envelope) error {
	_, err := s.Store.Seal(cluster, run)
	return err
}

func (s segments) Add(b []byte) error {
	_, err := s.Store.Add(b)
	return err
}

func (s segments) Verify(ctx context.Context, progress func(int)) error {
	_, err := s.Store.Verify(ctx, progress)
	return err
}

func (s segments) List() (out []api.Segment) {
	for _, f := range s.Store.List() {
		out = append(out, api.Segment{First: f.First, Last: f.Last, Prev: f.Prev, End: f.End, Bytes: f.Bytes, SHA256: f.SHA256, Damage: f.Damage})
	}
	return out
}

// room is a store's file that does as it is told.
type room struct {
	mu    sync.Mutex
	size  api.StoreSize
	after api.StoreSize // what a defragmentation leaves
	calls []string
}

func (r *room) did(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, what)
}

func (r *room) set(now, after api.StoreSize) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size, r.after, r.calls = now, after, nil
}

func (r *room) done() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *room) Size(context.Context) (api.StoreSize, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size, nil
}

func (r *room) Compact(context.Context) error { r.did("compact"); return nil }

func (r *room) Defrag(context.Context) error {
	r.did("defrag")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size = r.after
	return nil
}

func (r *room) HandOver(context.Context) error {
	r.did("hand over")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size.Leader = false
	return nil
}

func (r *room) Disarm(context.Context) error {
	r.did("disarm")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size.NoSpace = false
	return nil
}

const mib = 1 << 20

// keeping is a pair that seals everything but the newest ten events.
func keeping(t *testing.T, change ...func(*config.Retention)) (*world, *node, *node) {
	t.Helper()
	w := newWorld(t)
	for _, n := range w.nodes {
		n.cfg.Retention = config.Retention{HotEvents: tenEvents, HotAge: config.Duration(24 * time.Hour)}
		for _, c := range change {
			c(&n.cfg.Retention)
		}
		n.sealed, n.room = openSegments(t, t.TempDir()), &room{size: api.StoreSize{Total: mib, InUse: mib, Quota: 100 * mib}}
	}
	a, b := w.nodes["node-a"], w.nodes["node-b"]
	a.start()
	b.start()
	w.within(time.Minute, "both nodes are well", func() bool { return a.well() && b.well() && len(a.agent.State().Nodes) == 2 })
	return w, a, b
}

func openSegments(t *testing.T, dir string) *segment.Store {
	t.Helper()
	s, err := segment.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// busy makes events.
func (n *node) busy(events int) {
	n.w.t.Helper()
	for i := range events {
		n.must(projections.DrainNode{Node: n.name, On: i%2 == 0})
	}
}

func (w *world) floor() eventlog.Seq {
	f, err := w.log.Floor(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return f.Seq
}

// Both nodes seal the same; what both have leaves the store, and nobody who asks
// notices.
func TestOldEventsLeaveTheStoreAndStayReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := keeping(t)
		defer w.end()
		a.busy(60)
		w.within(time.Minute, "the log is trimmed", func() bool { return w.floor() >= 50 })
		time.Sleep(5 * time.Second)
		if _, err := w.log.Read(context.Background(), 0, 1); !errors.Is(err, eventlog.ErrTrimmed) {
			t.Fatalf("the store still has event 1: %v", err)
		}
		files := func(n *node) []segment.Info { return n.sealed.List() }
		if x, y := files(a), files(b); len(x) < 5 || !slices.Equal(x[:5], y[:5]) {
			t.Errorf("the nodes sealed different files:\n%v\n%v", x, y)
		}
		for _, n := range []*node{a, b} {
			events, err := n.agent.Events(context.Background(), audit.Query{Limit: 1000})
			if err != nil || len(events) == 0 || events[0].Seq != 1 {
				t.Errorf("%s: %d events, %v", n.name, len(events), err)
			}
			if _, err := eventlog.VerifyRun(eventlog.Head{}, events); err != nil {
				t.Error(err)
			}
		}
		trims, err := a.agent.Events(context.Background(), audit.Query{Types: []string{"log.trimmed"}})
		if err != nil || len(trims) == 0 {
			t.Fatalf("no trim is recorded: %v", err)
		}
		p, err := eventlog.Payload[eventlog.TrimPayload](trims[0].Draft)
		if err != nil || p.UpTo.Hash == "" || p.Sealed["node-a"] < p.UpTo.Seq || p.Sealed["node-b"] < p.UpTo.Seq || trims[0].Actor.Name != "node-a" {
			t.Errorf("the trim says %+v (%v) by %s", p, err, trims[0].Actor.Name)
		}
		if !slices.Contains(a.room.done(), "compact") {
			t.Errorf("after a trim the store was not compacted: %v", a.room.done())
		}
		for _, whole := range []bool{false, true} {
			v, err := a.agent.Verify(context.Background(), whole, func(_, _ eventlog.Seq) {})
			if err != nil || len(v.Damage) > 0 || len(v.Others) != 1 || !v.Others[0].Same || v.Segments < 5 {
				t.Errorf("verify %v: %+v %v", whole, v, err)
			}
			if whole && (v.From != 1 || v.Events != int(v.To)) {
				t.Errorf("verify from the start: %d events, %d–%d", v.Events, v.From, v.To)
			}
		}
	})
}

// What the other node has not sealed stays.
func TestNothingGoesThatTheOtherNodeHasNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := keeping(t)
		defer w.end()
		b.stop()
		was := w.floor()
		for range 60 {
			a.append(t)
		}
		time.Sleep(30 * time.Second)
		if a.sealed.End().Seq < 50 {
			t.Errorf("node-a sealed up to %d only", a.sealed.End().Seq)
		}
		if w.floor() != was {
			t.Errorf("the log was trimmed up to %d, and node-b is away", w.floor())
		}
		b.start()
		w.within(time.Minute, "node-b catches up and the log is trimmed", func() bool { return w.floor() >= 50 })
	})
}

// append puts an event into the log past the agent.
func (n *node) append(t *testing.T) {
	t.Helper()
	s := n.agent.State()
	if _, err := n.w.log.Append(context.Background(), eventlog.Batch{Epoch: s.Head.Epoch, Drafts: []eventlog.Draft{{ID: n.w.id(), Type: eventlog.TypeStoreUp, Stream: "x", Data: json.RawMessage(`{}`)}}}); err != nil {
		t.Fatal(err)
	}
}

// A node that lost its disk gets the segments from the other one, and folds the
// same state out of them.
func TestAFreshNodeFetchesSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := keeping(t)
		defer w.end()
		a.busy(60)
		w.within(time.Minute, "the log is trimmed", func() bool { return w.floor() >= 50 })
		b.stop()
		b.disk.state, b.sealed = nil, openSegments(t, t.TempDir())
		b.start()
		w.within(time.Minute, "node-b is in sync", func() bool { return b.agent.Snapshot().Synced && b.well() })
		w.within(10*time.Second, "both have the same state", func() bool {
			x, _ := json.Marshal(a.agent.State())
			y, _ := json.Marshal(b.agent.State())
			return bytes.Equal(x, y)
		})
		if b.sealed.End().Seq < 50 {
			t.Errorf("node-b has segments up to %d", b.sealed.End().Seq)
		}
	})
}

// A damaged segment is found, said, and replaced by the other node's copy.
func TestADamagedSegmentIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := keeping(t)
		defer w.end()
		dir := t.TempDir()
		b.stop()
		b.sealed = openSegments(t, dir)
		b.start()
		w.within(time.Minute, "both are well", func() bool { return a.well() && b.well() })
		a.busy(60)
		w.within(time.Minute, "the log is trimmed", func() bool { return w.floor() >= 50 })
		path := filepath.Join(dir, segment.FileName(11))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := b.agent.Verify(context.Background(), true, func(_, _ eventlog.Seq) {})
		if err != nil || !slices.ContainsFunc(v.Damage, func(s string) bool { return strings.Contains(s, segment.FileName(11)) }) {
			t.Fatalf("verify: %+v %v", v.Damage, err)
		}
		w.within(time.Minute, "the segment is whole again", func() bool {
			now, err := os.ReadFile(path)
			return err == nil && bytes.Equal(now, good)
		})
		v, err = b.agent.Verify(context.Background(), true, func(_, _ eventlog.Seq) {})
		if err != nil || len(v.Damage) > 0 {
			t.Errorf("after that: %v %v", v.Damage, err)
		}
	})
}

// A node that went on alone has sealed events that never were the cluster's. Its
// segment is set aside, the other node's comes in its place.
func TestSegmentsOfAnotherHistoryAreSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := keeping(t)
		defer w.end()
		a.busy(60)
		w.within(time.Minute, "the log is trimmed", func() bool { return w.floor() >= 50 })
		b.stop()
		dir := t.TempDir()
		b.disk.state, b.sealed = nil, openSegments(t, dir)
		first, err := a.sealed.File(1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.sealed.Add(first); err != nil {
			t.Fatal(err)
		}
		head := b.sealed.End()
		var strange []eventlog.Envelope
		for i := range tenEvents {
			e, err := eventlog.Seal(head, head.Epoch, uint64(i+1), time.Now(), eventlog.Draft{ID: fmt.Sprint(i), Type: eventlog.TypeStoreUp, Stream: "alone"})
			if err != nil {
				t.Fatal(err)
			}
			strange, head = append(strange, e), eventlog.HeadOf(e)
		}
		if _, err := b.sealed.Seal("c", strange); err != nil {
			t.Fatal(err)
		}
		b.start()
		w.within(2*time.Minute, "node-b has the cluster's segments", func() bool {
			h, ok := b.sealed.EndAt(20)
			x, _ := a.sealed.EndAt(20)
			return ok && h == x && b.agent.Snapshot().Synced
		})
		if left, err := filepath.Glob(filepath.Join(dir, "*.aside")); err != nil || len(left) != 1 {
			t.Errorf("set aside: %v %v", left, err)
		}
	})
}

// A store that fills up: first changes are refused, then facts wait; when there
// is room again everything goes on.
func TestAFullStoreRefusesIntentsBeforeFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := keeping(t)
		defer w.end()
		fill := func(total int64) {
			for _, n := range []*node{a, b} {
				n.room.set(api.StoreSize{Total: total * mib, InUse: total * mib, Quota: 100 * mib}, api.StoreSize{})
			}
			time.Sleep(3 * time.Second)
		}
		codes := func() (out []string) {
			for _, c := range a.agent.Status(context.Background()).Conditions {
				if c.Code == "store-size" {
					out = append(out, string(c.Severity))
				}
			}
			return out
		}
		fill(70)
		a.must(projections.DrainNode{Node: "node-a", On: true})
		if got := codes(); !slices.Equal(got, []string{"warning"}) {
			t.Errorf("at 70 %%: %v", got)
		}
		fill(85)
		_, err := a.do(projections.DrainNode{Node: "node-a"})
		var refused *api.Error
		if !errors.As(err, &refused) || refused.Class != api.ClassUnavailable || !strings.Contains(refused.Why, "85 %") || !strings.Contains(refused.Why, "dyad backup") {
			t.Errorf("at 85 %% a change: %v", err)
		}
		if st := a.agent.Status(context.Background()); st.Writable || !slices.Equal(codes(), []string{"critical"}) {
			t.Errorf("at 85 %%: writable %v, %v", st.Writable, codes())
		}
		drill := api.FactRequest{Type: eventlog.TypeDrillStarted, Data: eventlog.DrillPayload{Drill: "x"}}
		record := func() {
			if err := a.agent.RecordFact(context.Background(), api.Caller{}, drill); err != nil {
				t.Fatal(err)
			}
		}
		record()
		w.within(5*time.Second, "at 85 % facts are recorded", func() bool { return a.disk.Len() == 0 })
		fill(96)
		record()
		time.Sleep(10 * time.Second)
		if a.disk.Len() != 1 {
			t.Errorf("at 96 %% %d facts wait", a.disk.Len())
		}
		fill(10)
		w.within(5*time.Second, "facts are recorded again", func() bool { return a.disk.Len() == 0 })
		a.must(projections.DrainNode{Node: "node-a"})
	})
}

func TestMakingRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, _ := keeping(t)
		defer w.end()
		small := api.StoreSize{Total: 10 * mib, InUse: 10 * mib, Quota: 100 * mib}
		for name, c := range map[string]struct {
			size  api.StoreSize
			calls []string
		}{
			"mostly free":         {api.StoreSize{Total: 40 * mib, InUse: 10 * mib, Quota: 100 * mib}, []string{"defrag"}},
			"the leader":          {api.StoreSize{Total: 40 * mib, InUse: 10 * mib, Quota: 100 * mib, Leader: true}, []string{"hand over", "defrag"}},
			"near its bound":      {api.StoreSize{Total: 90 * mib, InUse: 60 * mib, Quota: 100 * mib}, []string{"defrag"}},
			"near, and all used":  {api.StoreSize{Total: 90 * mib, InUse: 85 * mib, Quota: 100 * mib}, nil},
			"small, mostly free":  {api.StoreSize{Total: 20 * mib, InUse: 1 * mib, Quota: 100 * mib}, nil},
			"at its bound":        {api.StoreSize{Total: 100 * mib, InUse: 50 * mib, Quota: 100 * mib, NoSpace: true}, []string{"compact", "defrag", "disarm"}},
			"a large file, alone": {api.StoreSize{Total: 60 * mib, InUse: 48 * mib, Quota: 100 * mib}, []string{"defrag"}},
		} {
			a.room.set(c.size, small)
			time.Sleep(4 * time.Second)
			got := a.room.done()
			if i := slices.Index(got, "compact"); i > 0 { // of a trim
				got = slices.Delete(got, i, i+1)
			}
			if !slices.Equal(got, c.calls) {
				t.Errorf("%s: %v, want %v", name, got, c.calls)
			}
		}
	})
}

// A store that fills up keeps fewer events.
func TestPressureShrinksTheHotWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := keeping(t, func(r *config.Retention) { r.HotEvents = 100_000 })
		defer w.end()
		was := w.floor()
		a.busy(60)
		time.Sleep(10 * time.Second)
		if w.floor() != was {
			t.Fatalf("trimmed up to %d within the hot window", w.floor())
		}
		for _, n := range []*node{a, b} {
			n.room.set(api.StoreSize{Total: 65 * mib, InUse: 65 * mib, Quota: 100 * mib}, api.StoreSize{})
		}
		w.within(time.Minute, "the log is trimmed", func() bool { return w.floor() >= 50 })
	})
}

// Events older than the hot age leave the store, however few they are.
func TestOldAgeLeavesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, _ := keeping(t, func(r *config.Retention) {
			r.HotEvents, r.HotAge = 100_000, config.Duration(2*time.Minute)
		})
		defer w.end()
		was := w.floor()
		a.busy(30)
		time.Sleep(10 * time.Second)
		if w.floor() != was {
			t.Fatalf("trimmed up to %d too early", w.floor())
		}
		time.Sleep(2 * time.Minute)
		w.within(5*time.Minute, "the log is trimmed", func() bool { return w.floor() > was })
	})
}
