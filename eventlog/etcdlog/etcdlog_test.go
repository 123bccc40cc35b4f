package etcdlog_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster/etcdnode"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/logtest"
)

// storeAddr is the client address of the one store all tests share; each test
// has a prefix of its own.
var storeAddr string

// storeFile is where that store keeps its keys.
var storeFile string

func TestMain(m *testing.M) { os.Exit(withStore(m)) }

func withStore(m *testing.M) int {
	dir, err := os.MkdirTemp("", "etcdlog")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	storeAddr, storeFile = freeAddr(), filepath.Join(dir, "store", "member", "snap", "db")
	peer := "http://" + freeAddr()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- etcdnode.Serve(ctx, etcdnode.ServeConfig{
			Name: "a", Dir: filepath.Join(dir, "store"), Cluster: "test",
			PeerURL: peer, ClientURL: "http://" + storeAddr, Members: map[string]string{"a": peer},
			Heartbeat: 20 * time.Millisecond, Election: 100 * time.Millisecond,
		})
	}()
	code := m.Run()
	cancel()
	if err := <-served; err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func client(t testing.TB, addr string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(etcdlog.ClientConfig("http://" + addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var prefixes atomic.Int64

func newPrefix() string { return fmt.Sprintf("t%d/", prefixes.Add(1)) }

func open(t testing.TB, addr string, o etcdlog.Options) *etcdlog.Log {
	t.Helper()
	l, err := etcdlog.Open(client(t, addr), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func draft(n int, key string) eventlog.Draft {
	return eventlog.Draft{ID: strconv.Itoa(n), Type: eventlog.TypePeerSet, Stream: "s", Key: key, Data: []byte(strconv.Itoa(n))}
}

func put(t testing.TB, l eventlog.Log, ds ...eventlog.Draft) []eventlog.Envelope {
	t.Helper()
	got, err := l.Append(t.Context(), eventlog.Batch{Drafts: ds})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestConformance(t *testing.T) {
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		prefix := newPrefix()
		p := newProxy(t, storeAddr)
		l := open(t, p.addr, etcdlog.Options{Prefix: prefix})
		return logtest.Harness{
			Log: l, Close: l.Close,
			Other:   func(t *testing.T) eventlog.Log { return open(t, storeAddr, etcdlog.Options{Prefix: prefix}) },
			Compact: func(t *testing.T) { compactStore(t) },
			Reconnect: func(t *testing.T) {
				p.cut()
				// The first call may still meet the connection that was cut.
				eventually(t, func() error { _, err := l.Head(t.Context()); return err })
			},
		}
	})
}

// compactStore drops all revisions but the newest.
func compactStore(t *testing.T) {
	t.Helper()
	c := client(t, storeAddr)
	resp, err := c.Get(t.Context(), "head")
	if err == nil {
		_, err = c.Compact(t.Context(), resp.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

// The answer to an append is lost. Whoever repeats it learns that it stands.
func TestUnknownOutcome(t *testing.T) {
	prefix := newPrefix()
	p := newProxy(t, storeAddr)
	l := open(t, p.addr, etcdlog.Options{Prefix: prefix, CallTimeout: 300 * time.Millisecond})
	put(t, l, draft(0, ""))
	direct := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	// Deaf from the moment the event stands: only its answer is lost.
	watched := client(t, storeAddr).Watch(t.Context(), prefix+"log/", clientv3.WithPrefix())
	p.deafAfterRequest(`"data":1`)
	b := eventlog.Batch{Drafts: []eventlog.Draft{draft(1, "once")}}
	if _, err := l.Append(t.Context(), b); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Fatalf("with its answer lost: %v, want ErrUnavailable", err)
	}
	<-watched
	p.cut()
	eventually(t, func() error { _, err := l.Head(t.Context()); return err })
	var dup *eventlog.DuplicateError
	if _, err := l.Append(t.Context(), b); !errors.As(err, &dup) || dup.Key != "once" || dup.Seq != 2 {
		t.Errorf("repeated: %v, want a duplicate of once at 2", err)
	}
	if h, err := direct.Head(t.Context()); err != nil || h.Seq != 2 {
		t.Errorf("the head is %v (%v), want 2", h, err)
	}
}

func TestUnavailable(t *testing.T) {
	l := open(t, freeAddr(), etcdlog.Options{CallTimeout: 100 * time.Millisecond})
	began := time.Now()
	if _, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(1, "")}}); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append: %v, want ErrUnavailable", err)
	}
	if _, err := l.Head(t.Context()); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("head: %v, want ErrUnavailable", err)
	}
	if _, err := l.Read(t.Context(), 0, 1); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("read: %v, want ErrUnavailable", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("three refusals took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for run, err := range l.Follow(ctx, eventlog.Head{}) {
		t.Errorf("a follower without a store delivered %d events and %v", len(run), err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := l.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{draft(1, "")}}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("append with a shorter deadline: %v, want the context's error", err)
	}
}

func TestOpen(t *testing.T) {
	if _, err := etcdlog.Open(nil, etcdlog.Options{}); err == nil {
		t.Error("a log without a client was opened")
	}
	c := client(t, storeAddr)
	l, err := etcdlog.Open(c, etcdlog.Options{Prefix: newPrefix()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Head(t.Context()); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("with its client closed: %v, want ErrClosed", err)
	}
	if _, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(1, "")}}); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("with its client closed: %v, want ErrClosed", err)
	}
}

// Whoever changes the store behind the log's back is found out, by readers and
// by followers.
func TestTamper(t *testing.T) {
	key := func(prefix string, n int) string { return fmt.Sprintf("%slog/%016x", prefix, n) }
	type store struct {
		*clientv3.Client
		prefix string
	}
	value := func(t *testing.T, s store, n int) string {
		resp, err := s.Get(t.Context(), key(s.prefix, n))
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatal(err)
		}
		return string(resp.Kvs[0].Value)
	}
	set := func(t *testing.T, s store, key, value string) {
		if _, err := s.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	del := func(t *testing.T, s store, key string) {
		if _, err := s.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		do    func(t *testing.T, s store)
		read  error // what reading it all says
		watch error // what a follower at the end says; nil: nothing
	}{
		"an event's bytes": {func(t *testing.T, s store) {
			set(t, s, key(s.prefix, 3), strings.Replace(value(t, s, 3), `"data":3`, `"data":4`, 1))
		}, eventlog.ErrCorrupt, eventlog.ErrCorrupt},
		"the same bytes again": {func(t *testing.T, s store) { set(t, s, key(s.prefix, 3), value(t, s, 3)) }, eventlog.ErrCorrupt, eventlog.ErrCorrupt},
		"an event in another's place": {func(t *testing.T, s store) {
			v := value(t, s, 2)
			del(t, s, key(s.prefix, 3))
			set(t, s, key(s.prefix, 3), v)
		}, eventlog.ErrCorrupt, eventlog.ErrCorrupt},
		"an event taken out":   {func(t *testing.T, s store) { del(t, s, key(s.prefix, 3)) }, eventlog.ErrGap, eventlog.ErrCorrupt},
		"the first taken out":  {func(t *testing.T, s store) { del(t, s, key(s.prefix, 1)) }, eventlog.ErrGap, eventlog.ErrCorrupt},
		"the last taken out":   {func(t *testing.T, s store) { del(t, s, key(s.prefix, 5)) }, eventlog.ErrGap, eventlog.ErrCorrupt},
		"a head that is not":   {func(t *testing.T, s store) { set(t, s, s.prefix+"head", `{"seq":"x"}`) }, eventlog.ErrCorrupt, nil},
		"a head of other hash": {func(t *testing.T, s store) { set(t, s, s.prefix+"head", `{"seq":5,"hash":"00"}`) }, eventlog.ErrCorrupt, nil},
		"a head too far":       {func(t *testing.T, s store) { set(t, s, s.prefix+"head", `{"seq":6,"hash":"00"}`) }, eventlog.ErrGap, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := store{client(t, storeAddr), newPrefix()}
			l := open(t, storeAddr, etcdlog.Options{Prefix: s.prefix})
			var end eventlog.Head
			for i := range 5 {
				end = eventlog.HeadOf(put(t, l, draft(i+1, ""))[0])
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			tampered := false
			for run, err := range l.Follow(ctx, end) {
				if err != nil || c.watch == nil {
					if !errors.Is(err, c.watch) {
						t.Errorf("a follower at the end: %v, want %v", err, c.watch)
					}
					break
				}
				if tampered || len(run) > 0 {
					t.Fatal("the follower went on")
				}
				tampered = true
				c.do(t, s)
			}
			if c.watch == nil {
				c.do(t, s)
			}
			if _, err := l.Read(t.Context(), 0, 100); !errors.Is(err, c.read) {
				t.Errorf("reading: %v, want %v", err, c.read)
			}
			for _, err := range l.Follow(ctx, eventlog.Head{}) {
				if err != nil {
					if !errors.Is(err, c.read) {
						t.Errorf("a follower from the start: %v, want %v", err, c.read)
					}
					return
				}
			}
			t.Errorf("a follower from the start found nothing")
		})
	}
}

func TestBrokenCountersAreCorrupt(t *testing.T) {
	for _, k := range []string{"epoch", "stream/s", "idem/k", "head"} {
		prefix := newPrefix()
		l := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
		if _, err := client(t, storeAddr).Put(t.Context(), prefix+k, "many"); err != nil {
			t.Fatal(err)
		}
		_, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(1, "k")}})
		if !errors.Is(err, eventlog.ErrCorrupt) || !strings.Contains(err.Error(), prefix+k) {
			t.Errorf("%s: %v, want ErrCorrupt that names it", k, err)
		}
	}
}

// The epoch key alone, raised by somebody else, keeps an old writer out.
func TestEpochKeyIsCompared(t *testing.T) {
	prefix := newPrefix()
	l := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	put(t, l, draft(1, ""))
	if _, err := client(t, storeAddr).Put(t.Context(), prefix+"epoch", "7"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(2, "")}}); !errors.Is(err, eventlog.ErrEpoch) {
		t.Errorf("epoch 0: %v, want ErrEpoch", err)
	}
	if _, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(2, "")}, Epoch: 7}); err != nil {
		t.Errorf("epoch 7: %v", err)
	}
	d, err := eventlog.NewDraft(eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{Epoch: 8}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{d}, Epoch: 7}); err != nil {
		t.Fatal(err)
	}
	resp, err := client(t, storeAddr).Get(t.Context(), prefix+"epoch")
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "8" {
		t.Errorf("after epoch.started 8 the key holds %v (%v)", resp.Kvs, err)
	}
}

// hooked runs something before the n-th transaction, counted from 1.
type hooked struct {
	clientv3.KV
	n, at int
	do    func()
}

func (h *hooked) Txn(ctx context.Context) clientv3.Txn {
	if h.n++; h.n == h.at {
		h.do()
	}
	return h.KV.Txn(ctx)
}

// Between the read of an append and its write anything may happen. The write
// must notice.
func TestChangedBetweenReadAndWrite(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(t *testing.T, prefix string, other *etcdlog.Log)
		batch   eventlog.Batch
		want    error
	}{
		"the epoch": {func(t *testing.T, prefix string, _ *etcdlog.Log) {
			if _, err := client(t, storeAddr).Put(t.Context(), prefix+"epoch", "7"); err != nil {
				t.Fatal(err)
			}
		}, eventlog.Batch{Drafts: []eventlog.Draft{draft(9, "")}}, eventlog.ErrEpoch},
		"the head, expected": {func(t *testing.T, _ string, other *etcdlog.Log) {
			put(t, other, draft(2, ""))
		}, eventlog.Batch{Drafts: []eventlog.Draft{draft(9, "")}, ExpectedHead: new(eventlog.Seq(1))}, eventlog.ErrConflict},
		"the stream, expected": {func(t *testing.T, _ string, other *etcdlog.Log) {
			put(t, other, draft(2, ""))
		}, eventlog.Batch{Drafts: []eventlog.Draft{draft(9, "")}, ExpectedStreams: map[string]uint64{"s": 1}}, eventlog.ErrConflict},
		"the key": {func(t *testing.T, _ string, other *etcdlog.Log) {
			put(t, other, draft(2, "k"))
		}, eventlog.Batch{Drafts: []eventlog.Draft{draft(9, "k")}}, eventlog.ErrDuplicate},
		"the head, not expected": {func(t *testing.T, _ string, other *etcdlog.Log) {
			put(t, other, draft(2, ""))
		}, eventlog.Batch{Drafts: []eventlog.Draft{draft(9, "")}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := newPrefix()
			other := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
			put(t, other, draft(1, ""))
			hooking := client(t, storeAddr)
			hooking.KV = &hooked{KV: hooking.KV, at: 2, do: func() { c.happens(t, prefix, other) }}
			l, err := etcdlog.Open(hooking, etcdlog.Options{Prefix: prefix})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := l.Append(t.Context(), c.batch)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if err == nil && (got[0].Seq != 3 || got[0].StreamRev != 3) {
				t.Errorf("added as event %d, revision %d; want 3 and 3", got[0].Seq, got[0].StreamRev)
			}
			if run, err := other.Read(t.Context(), 0, 10); err != nil {
				t.Error(err)
			} else if _, err := eventlog.VerifyRun(eventlog.Head{}, run); err != nil {
				t.Error(err)
			}
		})
	}
}

// Writers that always come first: the append gives up after its bound.
func TestOvertakenForEver(t *testing.T) {
	prefix := newPrefix()
	other := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	hooking := client(t, storeAddr)
	hooking.KV = &overtaken{hooking.KV, func() { put(t, other, draft(1, "")) }}
	l, err := etcdlog.Open(hooking, etcdlog.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(9, "")}}); !errors.Is(err, eventlog.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
}

type overtaken struct {
	clientv3.KV
	first func()
}

func (o *overtaken) Txn(ctx context.Context) clientv3.Txn {
	o.first()
	return o.KV.Txn(ctx)
}

// What a handle has seen, it insists on: a member that was wiped and is not
// caught up is not taken for an empty log.
func TestMemberBehind(t *testing.T) {
	prefix := newPrefix()
	l := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	put(t, l, draft(1, ""), draft(2, ""))
	if _, err := client(t, storeAddr).Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Head(t.Context()); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("head: %v, want ErrUnavailable", err)
	}
	if _, err := l.Read(t.Context(), 0, 5); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("read: %v, want ErrUnavailable", err)
	}
}

// A consumer that takes longer than the watch is kept for still gets all.
func TestConsumerSlowerThanItsWatch(t *testing.T) {
	l := open(t, storeAddr, etcdlog.Options{Prefix: newPrefix()})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	n, steps := 0, 0
	for run, err := range l.Follow(ctx, eventlog.Head{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += len(run)
		switch steps++; {
		case steps == 1:
			put(t, l, draft(1, ""))
		case steps == 2:
			for i := range 10 {
				put(t, l, draft(2+i, ""))
			}
			<-time.After(1200 * time.Millisecond) // slower than slowAfter
		}
		if n == 11 {
			return
		}
	}
	t.Errorf("%d events came, want 11", n)
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			l := open(b, storeAddr, etcdlog.Options{Prefix: newPrefix()})
			ds := make([]eventlog.Draft, size)
			for i := range ds {
				ds[i] = draft(i, "")
			}
			for b.Loop() {
				put(b, l, ds...)
			}
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
