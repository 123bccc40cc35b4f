package etcdlog_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/logtest"
)

// defaultTxnOps is what an etcd takes in one transaction if nobody says otherwise.
const defaultTxnOps = int(embed.DefaultMaxTxnOps)

// startShared runs an etcd cluster of three that knows nothing of dyad: with
// etcd's own limits.
func startShared(t *testing.T) (endpoints []string, stop []func()) {
	t.Helper()
	var members []*embed.Etcd
	var initial []string
	urls := make([]url.URL, 3)
	for i := range urls {
		urls[i] = url.URL{Scheme: "http", Host: freeAddr()}
		initial = append(initial, fmt.Sprintf("m%d=%s", i, urls[i].String()))
	}
	for i := range urls {
		c := embed.NewConfig()
		c.Name, c.Dir, c.LogLevel = fmt.Sprintf("m%d", i), t.TempDir(), "fatal"
		client := url.URL{Scheme: "http", Host: freeAddr()}
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{urls[i]}, []url.URL{urls[i]}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		c.InitialCluster, c.TickMs, c.ElectionMs = strings.Join(initial, ","), 20, 200
		e, err := embed.StartEtcd(c)
		if err != nil {
			t.Fatal(err)
		}
		end := sync.OnceFunc(e.Close)
		t.Cleanup(end)
		members, endpoints, stop = append(members, e), append(endpoints, client.String()), append(stop, end)
	}
	for _, e := range members {
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(time.Minute):
			t.Fatal("etcd is not ready after a minute")
		}
	}
	return endpoints, stop
}

func openShared(t *testing.T, endpoints []string, o etcdlog.Options) *etcdlog.Log {
	t.Helper()
	c, err := clientv3.New(etcdlog.ClientConfig(endpoints...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	o.Shared = true
	l, err := etcdlog.Open(c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// A shared store passes the suite of every log.
func TestSharedConformance(t *testing.T) {
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		prefix, p := newPrefix(), newProxy(t, storeAddr)
		l := openShared(t, []string{"http://" + p.addr}, etcdlog.Options{Prefix: prefix})
		return logtest.Harness{
			Log: l, Close: l.Close, Compact: func(t *testing.T) { compactStore(t) },
			Other: func(t *testing.T) eventlog.Log { return open(t, storeAddr, etcdlog.Options{Prefix: prefix}) },
			Reconnect: func(t *testing.T) {
				p.cut()
				eventually(t, func() error { _, err := l.Head(t.Context()); return err })
			},
		}
	})
}

// Three members that know nothing of dyad: whichever is asked, a reader sees all
// that was acknowledged, and one of them may die.
func TestSharedMembers(t *testing.T) {
	endpoints, stop := startShared(t)
	a, b := openShared(t, endpoints, etcdlog.Options{}), openShared(t, endpoints, etcdlog.Options{})
	other := openShared(t, endpoints, etcdlog.Options{Prefix: "other/"})
	put(t, other, draft(1, ""))
	for i := range 60 {
		end := eventlog.HeadOf(put(t, a, draft(i+1, fmt.Sprint("k", i)))[0])
		if h, err := b.Head(t.Context()); err != nil || h != end {
			t.Fatalf("the other handle has %v (%v), want %v", h, err, end)
		}
	}
	got := followed(t, b)
	stop[0]()
	eventually(t, func() error {
		_, err := a.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(61, "k60")}})
		if errors.Is(err, eventlog.ErrDuplicate) {
			return nil
		}
		return err
	})
	for n := 0; n < 61; {
		select {
		case run := <-got:
			n += len(run)
		case <-time.After(30 * time.Second):
			t.Fatalf("with a member dead the follower has %d of 61 events", n)
		}
	}
	upTo, err := a.Read(t.Context(), 49, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Trim(t.Context(), eventlog.HeadOf(upTo[0])); err != nil {
		t.Errorf("a trim of 50 events with 50 keys: %v", err)
	}
	if h, err := other.Head(t.Context()); err != nil || h.Seq != 1 {
		t.Errorf("the log below another prefix has %v (%v)", h, err)
	}
}

// followed follows l in the background until the test ends.
func followed(t *testing.T, l *etcdlog.Log) <-chan []eventlog.Envelope {
	got := make(chan []eventlog.Envelope, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for run, err := range l.Follow(ctx, eventlog.Head{}) {
			if err != nil {
				t.Errorf("the follower: %v", err)
			}
			got <- run
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return got
}

// What can be split fits into etcd's default limits; what can't is refused as too
// large, and nothing is added.
func TestSharedLimits(t *testing.T) {
	endpoints, _ := startShared(t)
	l := openShared(t, endpoints, etcdlog.Options{})
	var many []eventlog.Draft
	for i := range defaultTxnOps {
		d := draft(i, fmt.Sprint("k", i))
		d.Stream = fmt.Sprint("s", i)
		many = append(many, d)
	}
	if _, err := l.Append(t.Context(), eventlog.Batch{Drafts: many}); !errors.Is(err, eventlog.ErrTooLarge) {
		t.Errorf("%d events at once: %v, want ErrTooLarge", len(many), err)
	}
	if h, err := l.Head(t.Context()); err != nil || h.Seq != 0 {
		t.Errorf("what was too large added something: %v (%v)", h, err)
	}
	source := open(t, storeAddr, etcdlog.Options{Prefix: newPrefix()})
	sealed := put(t, source, many...)
	if err := l.ImportBase(t.Context(), eventlog.Head{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Import(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	if err := l.ImportDone(t.Context(), eventlog.HeadOf(sealed[len(sealed)-1])); err != nil {
		t.Fatal(err)
	}
	far := openShared(t, endpoints, etcdlog.Options{Prefix: "far/"})
	streams := map[string]uint64{}
	for _, e := range sealed {
		streams[e.Stream] = e.StreamRev
	}
	if err := far.ImportBase(t.Context(), eventlog.HeadOf(sealed[9]), streams); err != nil {
		t.Errorf("%d streams: %v", len(streams), err)
	}
}

// A store that ends before what the node knows of its log holds another log, or
// lost this one: nothing is read from it, and nothing is added.
func TestSharedStoreThatLostTheLog(t *testing.T) {
	prefix := newPrefix()
	put(t, open(t, storeAddr, etcdlog.Options{Prefix: prefix}), draft(1, ""), draft(2, ""))
	at := func(seen eventlog.Seq) (newest, added error) {
		l := openShared(t, []string{"http://" + storeAddr}, etcdlog.Options{Prefix: prefix, Seen: seen})
		_, newest = l.Newest(t.Context())
		_, added = l.Append(t.Context(), eventlog.Batch{Drafts: []eventlog.Draft{draft(3, "k")}})
		return newest, added
	}
	if newest, added := at(3); !errors.Is(newest, eventlog.ErrUnavailable) || !errors.Is(added, eventlog.ErrUnavailable) {
		t.Errorf("one event is missing: read %v, added %v", newest, added)
	}
	if newest, added := at(2); newest != nil || added != nil {
		t.Errorf("no event is missing: read %v, added %v", newest, added)
	}
}

// after runs something between a transaction and its caller.
type after struct {
	clientv3.KV
	do func()
}

type afterTxn struct {
	clientv3.Txn
	do func()
}

func (a after) Txn(ctx context.Context) clientv3.Txn { return afterTxn{a.KV.Txn(ctx), a.do} }

func (a afterTxn) Then(ops ...clientv3.Op) clientv3.Txn { return afterTxn{a.Txn.Then(ops...), a.do} }

func (a afterTxn) Commit() (*clientv3.TxnResponse, error) {
	r, err := a.Txn.Commit()
	a.do()
	return r, err
}

// An answer is not old because this handle heard of newer events while it was on
// its way.
func TestSharedAnswerOnItsWay(t *testing.T) {
	prefix := newPrefix()
	other := open(t, storeAddr, etcdlog.Options{Prefix: prefix})
	put(t, other, draft(1, ""))
	c, err := clientv3.New(etcdlog.ClientConfig("http://" + storeAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := etcdlog.Open(c, etcdlog.Options{Prefix: prefix, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := 0
	c.KV = after{c.KV, func() {
		if n++; n == 1 { // the answer to the read of the append
			put(t, other, draft(2, ""))
			if h, err := l.Head(t.Context()); err != nil || h.Seq != 2 {
				t.Errorf("the head: %v %v", h, err)
			}
		}
	}}
	if got := put(t, l, draft(3, "")); got[0].Seq != 3 {
		t.Errorf("it became event %d", got[0].Seq)
	}
}
