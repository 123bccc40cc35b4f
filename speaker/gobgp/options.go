package gobgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Bounds and defaults.
const (
	// DefaultConnectRetry is the pause between attempts to open a session.
	DefaultConnectRetry = 2 * time.Second
	// minConnectRetry and maxConnectRetry bound Options.ConnectRetry. GoBGP
	// waits 1.5–2 s at least, and always before the first attempt.
	minConnectRetry = time.Second
	maxConnectRetry = 120 * time.Second
	// batchSize bounds how many paths are handed to GoBGP in one call: it does
	// nothing else in the meantime (10–15 µs per path).
	batchSize = 2048
	// maxEvents bounds the session changes that wait for the dispatcher; behind
	// it, GoBGP keeps them.
	maxEvents = 1024
	// ceaseGrace bounds the wait for sessions to send their last NOTIFICATION.
	ceaseGrace = 2 * time.Second
	// explainedFor is how long a known cause is not replaced by a vaguer one:
	// routers drop further attempts without a word for a while.
	explainedFor = time.Minute
	// longestHold stands for hold time 0, in seconds; see the package doc.
	longestHold = 65535
)

// Options of a [Speaker].
type Options struct {
	// ListenPort accepts connections on this TCP port; 0 accepts none, and
	// sessions are opened from this side only.
	ListenPort uint16
	// ListenAddresses to accept on; default all.
	ListenAddresses []netip.Addr
	// LocalAddresses are used as the source of sessions, by family; default
	// what the kernel chooses. They also become the next hop.
	LocalAddresses []netip.Addr
	// RemotePort is the routers' TCP port; default 179.
	RemotePort uint16
	// ConnectRetry is the pause between attempts to open a session, 1–120 s;
	// default 2 s. GoBGP takes anything below 2 s for 2 s.
	ConnectRetry time.Duration
	// MultihopTTL allows eBGP routers that are up to this many hops away; 0
	// and 1 mean directly connected.
	MultihopTTL uint8
	// NextHop6, if set, is the next hop of IPv6 prefixes told over an IPv4
	// session. Without it they are withheld there.
	NextHop6 netip.Addr
	// Log defaults to slog.Default. GoBGP's own records arrive at debug level.
	Log *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.ConnectRetry == 0 {
		o.ConnectRetry = DefaultConnectRetry
	}
	if o.ConnectRetry < minConnectRetry || o.ConnectRetry > maxConnectRetry {
		return o, fmt.Errorf("connect retry %v is out of range: give %v to %v", o.ConnectRetry, minConnectRetry, maxConnectRetry)
	}
	if o.RemotePort == 0 {
		o.RemotePort = 179
	}
	if o.NextHop6.IsValid() && (o.NextHop6.Is4() || o.NextHop6.Is4In6() || o.NextHop6.IsUnspecified() || o.NextHop6.IsLinkLocalUnicast()) {
		return o, fmt.Errorf("next hop %s for IPv6 prefixes: give a global IPv6 address", o.NextHop6)
	}
	for _, a := range o.LocalAddresses {
		if !a.IsValid() || a.IsUnspecified() {
			return o, fmt.Errorf("local address %q: give an address of this host", a)
		}
	}
	return o, nil
}

// localFor is the source address for sessions of a family; invalid if the
// kernel chooses.
func (o Options) localFor(is4 bool) netip.Addr {
	for _, a := range o.LocalAddresses {
		if a.Unmap().Is4() == is4 {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}
