package projections

import (
	"net/netip"
)

// Protocol is how an address is announced.
type Protocol string

// The protocols.
const (
	BGP Protocol = "bgp"
	ARP Protocol = "arp" // IPv4 on a switch without peers
	NDP Protocol = "ndp" // IPv6 on a switch without peers
)

// Rung is a step of the preference ladder. All attributes of a rung move
// together, because whichever the router compares first decides.
type Rung string

// The rungs.
const (
	P0 Rung = "P0" // survivor
	P1 Rung = "P1" // normal
	P2 Rung = "P2" // draining, stepping down, not in sync
)

// Origin values of RFC 4271 section 5.1.1.
const (
	OriginIGP        uint8 = 0
	OriginIncomplete uint8 = 2
)

// GracefulShutdown is the well-known community of RFC 8326.
const GracefulShutdown uint32 = 65535 << 16

// Attributes are the BGP path attributes of one announcement.
type Attributes struct {
	Origin      uint8    `json:"origin"`
	Prepend     int      `json:"prepend"` // own ASN this many times more
	MED         uint32   `json:"med"`
	LocalPref   uint32   `json:"local_pref"` // sent to iBGP peers only
	Communities []uint32 `json:"communities,omitempty"`
}

// Announcement is one address told to one neighbour (or one segment) by one
// node, or the reason why it is not told.
type Announcement struct {
	Node     string       `json:"node"`
	Service  string       `json:"service"`
	Prefix   netip.Prefix `json:"prefix"`
	Protocol Protocol     `json:"protocol"`
	Switch   string       `json:"switch"`
	Peer     netip.Addr   `json:"peer,omitzero"` // BGP only
	// Interface and Claim are for a switch without peers only.
	Interface string      `json:"interface,omitempty"`
	Claim     Layer2Claim `json:"claim,omitzero"`
	// Announced is false if the address is withheld; Reason says why.
	Announced  bool       `json:"announced"`
	Rung       Rung       `json:"rung,omitempty"`
	Attributes Attributes `json:"attributes"`
	Reason     Reason     `json:"reason"`
}

// ClaimMode is what a node is to an address on a switch without peers, where one
// node at a time answers for it.
type ClaimMode string

// The modes.
const (
	// ClaimOwn: the node is the owner, while both are well.
	ClaimOwn ClaimMode = "own"
	// ClaimTake: the other node does not forward; claim it at once.
	ClaimTake ClaimMode = "take"
	// ClaimSpare: keep it until the other node claims it, and take it when nobody
	// answers for it.
	ClaimSpare ClaimMode = "spare"
)

// Layer2Claim says how to hold an address on a switch without peers. The zero value
// leaves the address alone.
type Layer2Claim struct {
	Mode ClaimMode `json:"mode"`
	// Firm: the other node gives way. Otherwise this node does, when both claim.
	Firm bool `json:"firm,omitempty"`
	// Preferred: this node is the owner while both are well.
	Preferred bool `json:"preferred,omitempty"`
	// Quick: the other node is in doubt, so watch closely whether it answers.
	Quick bool `json:"quick,omitempty"`
}

// Announcements are what one node should tell the network: sorted by prefix,
// then switch, then peer.
type Announcements []Announcement
