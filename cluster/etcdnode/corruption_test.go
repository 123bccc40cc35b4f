package etcdnode

import (
	"net"
	"testing"
	"time"
)

// A member compares its data only with members that are there to answer.
func TestComparable(t *testing.T) {
	a, b := pair(t)
	// It writes the members it knows to its database, which it otherwise does a
	// bit later.
	within(t, 20*time.Second, "it to know of its vote, and write that", func() bool { return NewRoom(b.client).Defrag(t.Context()) == nil })
	b.kill(t)
	if !b.c.comparable(t.Context()) {
		t.Error("the other member serves, and is not to be compared with")
	}
	self, err := selfOnDisk(b.c.Dir)
	if l, werr := readWAL(b.c.Dir); err != nil || werr != nil || self != l.self {
		t.Errorf("this member is %x (%v), by its log %x (%v)", self, err, l.self, werr)
	}
	a.kill(t)
	if b.c.comparable(t.Context()) {
		t.Error("there is nobody, and it is to be compared with")
	}
	// One that only listens, as a store does while it starts.
	l, err := net.Listen("tcp", a.c.PeerURL[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b.c.comparable(t.Context()) {
		t.Error("the other member says nothing, and is to be waited for")
	}
}
