package speaker

import (
	"context"
	"net/netip"
)

// Tester announces single routes beside the wish, to find out what a router
// makes of them, and hears what the router sends back. A speaker may be one. All
// methods may be called by several goroutines.
type Tester interface {
	// Test announces a route beside the wish, or replaces it. It fails if the
	// peer is not wished for, if its session can't carry the route, or if a wish
	// has the same prefix: a test never touches what a service uses. The route
	// ends with Untest, with its peer, and with Close.
	Test(ctx context.Context, r Route) error
	// Untest withdraws what Test announced. What a wish announces by now stays.
	Untest(ctx context.Context, peer netip.Addr, prefix netip.Prefix) error
	// Heard is the path of exactly that prefix that the peer's router sent, as it
	// arrived: nothing that routers send is used for anything else.
	Heard(peer netip.Addr, prefix netip.Prefix) (Heard, error)
}

// Heard is a path that a router sent.
type Heard struct {
	// There is false if it sent none, or withdrew it.
	There       bool
	Communities []uint32
	NextHop     netip.Addr
}
