package speaker

import (
	"context"
	"net/netip"
	"time"

	"dyad/projections"
)

// Peer is a BGP neighbour as a speaker needs it.
type Peer struct {
	Address  netip.Addr
	PeerASN  uint32
	SelfASN  uint32
	HoldTime uint16 // seconds, proposed
}

// Route is one prefix with its attributes, told to one peer.
type Route struct {
	Peer       netip.Addr
	Prefix     netip.Prefix
	Attributes projections.Attributes
}

// Wish is everything a speaker should do. Peers not in it are removed, routes
// not in it are withdrawn.
//
// A nil Routes means that nothing is known about routes yet and what stands is
// kept; an empty, non-nil Routes withdraws all.
type Wish struct {
	RouterID netip.Addr // IPv4; RFC 6286 asks only that it is unique
	Peers    []Peer
	Routes   []Route
	// Claims are the addresses to answer for without BGP, Segments the interfaces
	// they are on. As with routes, nil keeps what stands.
	Claims   []Claim
	Segments []projections.Segment
}

// SessionState is a state of the BGP finite state machine (RFC 4271 section 8).
type SessionState string

// Session states.
const (
	Idle        SessionState = "Idle"
	Connect     SessionState = "Connect"
	Active      SessionState = "Active"
	OpenSent    SessionState = "OpenSent"
	OpenConfirm SessionState = "OpenConfirm"
	Established SessionState = "Established"
)

// Session is the state of the session with one peer.
type Session struct {
	Peer    netip.Addr   `json:"peer"`
	State   SessionState `json:"state"`
	Since   time.Time    `json:"since,omitzero"`
	PeerASN uint32       `json:"peer_asn"`
	SelfASN uint32       `json:"self_asn"`
	// HoldTime is the negotiated hold time in seconds once Established.
	HoldTime uint16 `json:"hold_time_s"`
	// Advertised counts the prefixes in the Adj-RIB-Out.
	Advertised int `json:"advertised"`
	// Withheld counts the routes that this session cannot carry; LastError
	// then says why, unless something worse does.
	Withheld  int    `json:"withheld,omitempty"`
	LastError string `json:"last_error,omitempty"`
	Flaps     int    `json:"flaps"`
}

// Change reports what one Set did to routes.
type Change struct {
	Announced, Changed, Withdrawn int
}

// Empty tells whether nothing was done.
func (c Change) Empty() bool { return c == Change{} }

// Speaker tells routers. All methods may be called by several goroutines.
type Speaker interface {
	// Set makes the wish true. It returns when every difference was handed to
	// the protocol engine, not when routers have it. On error the caller calls
	// again with the newest wish.
	Set(ctx context.Context, w Wish) (Change, error)
	// Sessions returns the state of every session, sorted by peer.
	Sessions() []Session
	// Notify calls f, from a goroutine of the speaker and one call at a time,
	// whenever a session changes its state. It must be set before the first Set.
	Notify(f func(Session))
	// Close withdraws nothing by itself: it ends the sessions (NOTIFICATION
	// Cease, RFC 4486 subcode 2 "Administrative Shutdown") and waits for all
	// goroutines.
	Close(ctx context.Context) error
}
