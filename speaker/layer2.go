package speaker

import (
	"net/netip"
	"slices"

	"dyad/projections"
)

// Claim is one service address on one interface of this node, to be answered for
// by address resolution.
type Claim struct {
	Switch    string
	Interface string
	Address   netip.Addr
	projections.Layer2Claim
	// Known: routers heard of it by BGP until now, so no stranger has it.
	Known bool
}

// Holding is how a [Claim] stands.
type Holding struct {
	Switch    string     `json:"switch"`
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	// Held: this node answers for the address now; Why says why not.
	Held bool   `json:"held"`
	Why  string `json:"why,omitempty"`
	// Stranger is the MAC of another host that claims the address; empty if none.
	Stranger string `json:"stranger,omitempty"`
}

// Move is what happened to addresses of one interface, all at the same time and
// for the same reason.
type Move struct {
	Kind      MoveKind
	Switch    string
	Interface string
	Addresses []netip.Addr
	MAC       string // of who claims them, if anybody does
	Why       string
}

// MoveKind is a kind of [Move].
type MoveKind string

// The kinds of [Move].
const (
	MoveTaken    MoveKind = "taken"    // this node answers for them
	MoveGiven    MoveKind = "given"    // it does so no more
	MoveConflict MoveKind = "conflict" // a stranger claims them
	MoveCleared  MoveKind = "cleared"  // and no longer does
)

// Layer2 is a [Speaker] that answers for service addresses on segments without a
// router that listens.
type Layer2 interface {
	Speaker
	// Holdings lists how every claim stands, sorted by interface and address.
	Holdings() []Holding
	// Trouble lists what keeps the speaker from doing its work, one sentence each.
	Trouble() []string
	// NotifyMoves calls f, one call at a time, with what has happened. It must be
	// set before the first Set, must not block, and must not call the speaker.
	NotifyMoves(f func(Move))
}

// ClaimsFrom is what a layer-2 speaker should do of what a node should tell the
// network. It is never nil unless the announcements are: an empty list gives
// everything up.
func ClaimsFrom(anns projections.Announcements) []Claim {
	if anns == nil {
		return nil
	}
	out := []Claim{}
	for _, a := range anns {
		if a.Claim.Mode == "" {
			continue
		}
		out = append(out, Claim{Switch: a.Switch, Interface: a.Interface, Address: a.Prefix.Addr(), Layer2Claim: a.Claim})
	}
	return out
}

// SameClaims tells whether two wishes ask the same of a layer-2 speaker.
func SameClaims(a, b projections.Announcements) bool {
	return slices.Equal(ClaimsFrom(a), ClaimsFrom(b))
}
