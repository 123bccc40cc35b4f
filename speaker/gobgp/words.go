package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"dyad/speaker"
)

// notification is a NOTIFICATION message's meaning (RFC 4271 section 4.5).
type notification struct {
	code, subcode uint8
	text          string // RFC 9003 communication, if any
}

var codeNames = map[uint8]string{
	1: "Message Header Error", 2: "OPEN Message Error", 3: "UPDATE Message Error",
	4: "Hold Timer Expired", 5: "Finite State Machine Error", 6: "Cease",
}

var subcodeNames = map[[2]uint8]string{
	{2, 1}: "Unsupported Version Number", {2, 2}: "Bad Peer AS", {2, 3}: "Bad BGP Identifier",
	{2, 4}: "Unsupported Optional Parameter", {2, 6}: "Unacceptable Hold Time", {2, 7}: "Unsupported Capability",
	{6, 1}: "Maximum Number of Prefixes Reached", {6, 2}: "Administrative Shutdown", {6, 3}: "Peer De-configured",
	{6, 4}: "Administrative Reset", {6, 5}: "Connection Rejected", {6, 6}: "Other Configuration Change",
	{6, 7}: "Connection Collision Resolution", {6, 8}: "Out of Resources", {6, 9}: "Hard Reset", {6, 10}: "BFD Down",
}

// String names the code and subcode as the RFCs do, with the numbers.
func (n notification) String() string {
	name, ok := codeNames[n.code]
	if !ok {
		name = "unknown error"
	}
	if sub, ok := subcodeNames[[2]uint8{n.code, n.subcode}]; ok {
		name += ", " + sub
	}
	name = fmt.Sprintf("NOTIFICATION %s (%d/%d)", name, n.code, n.subcode)
	if n.text != "" {
		name += fmt.Sprintf(" %q", n.text)
	}
	return name
}

// received says what a NOTIFICATION from the router means.
func (n notification) received(p speaker.Peer) string {
	return fmt.Sprintf("the router sent %s%s", n, n.cause(p))
}

func (n notification) cause(p speaker.Peer) string {
	switch [2]uint8{n.code, n.subcode} {
	case [2]uint8{2, 2}:
		return fmt.Sprintf(": it expects another ASN than ours, %d. Set its remote ASN for this node to %d, "+
			"or the peer's own ASN to what it expects", p.SelfASN, p.SelfASN)
	case [2]uint8{2, 3}:
		return ": the BGP identifiers clash. Give this node a router ID that no other speaker has"
	case [2]uint8{2, 6}:
		return fmt.Sprintf(": it does not accept the hold time %d. Set a longer one for the peer", proposed(p))
	case [2]uint8{6, 1}:
		return ": it accepts fewer prefixes than we announce. Raise its maximum for this neighbour"
	case [2]uint8{6, 2}:
		return ": somebody shut the session down on the router"
	case [2]uint8{6, 3}, [2]uint8{6, 5}:
		return ": it has no such neighbour (any more). Configure this node's address as a neighbour on it"
	}
	if n.code == 4 {
		return ": it heard no keepalive from us in time. Look for loss on the path, or raise the hold time"
	}
	return ""
}

// sent says what a NOTIFICATION from us means. asn is the ASN that the router
// named, 0 if it is not known.
func (n notification) sent(p speaker.Peer, asn uint32) string {
	why := ""
	switch [2]uint8{n.code, n.subcode} {
	case [2]uint8{2, 2}:
		why = fmt.Sprintf(": its ASN is not %d. Correct the peer ASN", p.PeerASN)
		if asn != 0 {
			why = fmt.Sprintf(": its ASN is %d, not %d. Set the peer ASN to %d", asn, p.PeerASN, asn)
		}
	case [2]uint8{2, 3}:
		why = ": it has the same BGP identifier as this node. Give this node another router ID"
	case [2]uint8{2, 6}:
		why = ": it proposed a hold time of 1 or 2 s. Set 0, or 3 or more, on it"
	}
	if n.code == 4 {
		why = ": the router was not heard in time. It, or the path to it, is down"
	}
	return fmt.Sprintf("we sent %s%s", n, why)
}

// connectWords says why no TCP connection came about.
func connectWords(p speaker.Peer, port uint16, why string) string {
	to := net.JoinHostPort(p.Address.String(), fmt.Sprint(port))
	for _, c := range []struct{ sign, text string }{
		{"refused", "refused the connection: no BGP daemon listens there, or it does not know this node's address"},
		{"no route to host", "cannot be reached: no route to host, or it does not answer ARP/ND. Check address, cable and VLAN"},
		{"network is unreachable", "cannot be reached: this node has no route there. Check the switch's port and address"},
		{"i/o timeout", "does not answer: a firewall drops TCP, the host is down, or it is not directly connected"},
		{"reset by peer", "reset the connection: it may expect a password, or another source address"},
		{"cannot assign requested address", "cannot be called: the configured local address is not on this node"},
	} {
		if strings.Contains(why, c.sign) {
			return to + " " + c.text
		}
	}
	return fmt.Sprintf("%s: %s", to, why)
}

// connectErr is connectWords for an error in hand.
func connectErr(p speaker.Peer, port uint16, err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return connectWords(p, port, "refused")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return connectWords(p, port, "i/o timeout")
	}
	return connectWords(p, port, err.Error())
}

// proposed is the hold time that is put on the wire, in seconds.
func proposed(p speaker.Peer) uint16 {
	if p.HoldTime == 0 {
		return longestHold
	}
	return p.HoldTime
}
