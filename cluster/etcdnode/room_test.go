package etcdnode

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// A real store fills up to its quota, refuses writes, and takes them again once
// old events were trimmed, the store compacted and its file rewritten. What the
// log says is untouched by it.
func TestAFullStoreComesBack(t *testing.T) {
	c := solo("a", t.TempDir(), freeURL(), freeURL())
	c.Quota = 16 << 20
	s, _ := start(t, c)
	ctx := testContext(t, time.Minute)
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(etcdlog.ClientConfig(c.ClientURL))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	log, err := etcdlog.Open(client, etcdlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	room := NewRoom(client)
	size, err := room.Size(ctx)
	if err != nil || size.Quota != 16<<20 || size.NoSpace || !size.Leader || size.Total <= 0 || size.InUse > size.Total {
		t.Fatalf("%+v %v", size, err)
	}
	text := strings.Repeat("x", 64<<10)
	var refused error
	var last eventlog.Envelope
	for i := 0; refused == nil && i < 400; i++ {
		var sealed []eventlog.Envelope
		sealed, refused = log.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{{ID: fmt.Sprint(i), Type: eventlog.TypePeerSet, Stream: "s", Reason: text}}})
		if refused == nil {
			last = sealed[0]
		}
		// The store knows its size as of its last write to disk, a tenth of a second
		// ago. Near the quota that is too long: it would run far over it, and be
		// too full even for the few bytes that say where the log begins.
		if i >= 180 {
			if err := room.Defrag(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(refused, eventlog.ErrUnavailable) || !strings.Contains(refused.Error(), "quota") {
		t.Fatalf("a full store says %v", refused)
	}
	if size, err = room.Size(ctx); err != nil || !size.NoSpace {
		t.Fatalf("%+v %v", size, err)
	}
	// The agent never lets it come to this: it stops facts at 95 %. Here the
	// alarm goes first, and the trim takes what room is left.
	if err := room.Disarm(ctx); err != nil {
		t.Fatal(err)
	}
	head, err := log.Head(ctx)
	if err != nil || head.Seq < last.Seq {
		t.Fatal(head, err)
	}
	keep, err := log.Read(ctx, head.Seq-10, 10)
	if err != nil || len(keep) != 10 {
		t.Fatal(len(keep), err)
	}
	if err := log.Trim(ctx, eventlog.HeadOf(keep[0])); err != nil {
		t.Fatal(err)
	}
	if floor, err := log.Floor(ctx); err != nil || floor.Seq != keep[0].Seq {
		t.Fatalf("floor %v %v", floor, err)
	}
	// Nothing is written between the two compactions.
	if err := errors.Join(room.Compact(ctx), room.Compact(ctx), room.Defrag(ctx), room.Disarm(ctx)); err != nil {
		t.Fatal(err)
	}
	if size, err = room.Size(ctx); err != nil || size.NoSpace || size.Percent() > 30 {
		t.Errorf("after making room: %+v, %d %%, %v", size, size.Percent(), err)
	}
	if _, err := log.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{{ID: "z", Type: eventlog.TypePeerSet, Stream: "s"}}}); err != nil {
		t.Errorf("after making room: %v", err)
	}
	rest, err := log.Read(ctx, keep[0].Seq, 100)
	if err != nil || len(rest) != 10 || rest[0].Hash != keep[1].Hash {
		t.Errorf("%d events are left, %v", len(rest), err)
	}
	if err := room.HandOver(ctx); err == nil {
		t.Error("a lone member handed over")
	}
}
