package neighbor

import (
	"encoding/binary"
	"net/netip"
)

// Message is what a frame says.
type Message struct {
	// Claim is true if the sender says that Address is at MAC. An ARP request
	// claims its sender's address.
	Claim   bool
	Address netip.Addr
	MAC     MAC
	// Asks is true if the sender wants to know where Target is; Address and MAC
	// are then where to send the answer, if they are known.
	Asks   bool
	Target netip.Addr
	// Source is the Ethernet source.
	Source MAC
}

// Parse reads an ARP frame, a neighbor solicitation or a neighbor
// advertisement. ok is false for anything else, and for what breaks a rule that
// RFC 826 or RFC 4861 section 7.1 makes receivers check. It allocates nothing.
func Parse(b []byte) (m Message, ok bool) {
	if len(b) < headerLen {
		return m, false
	}
	m.Source = MAC(b[6:12])
	switch binary.BigEndian.Uint16(b[12:]) {
	case EtherTypeARP:
		return parseARP(m, b[headerLen:])
	case EtherTypeIPv6:
		return parseND(m, b[headerLen:])
	}
	return m, false
}

func parseARP(m Message, b []byte) (Message, bool) {
	if len(b) < arpLen || b[0] != 0 || b[1] != 1 || b[2] != 8 || b[3] != 0 || b[4] != 6 || b[5] != 4 {
		return m, false
	}
	op := binary.BigEndian.Uint16(b[6:])
	if op != opRequest && op != opReply {
		return m, false
	}
	m.MAC, m.Address = MAC(b[8:14]), netip.AddrFrom4([4]byte(b[14:18]))
	m.Claim = !m.Address.IsUnspecified() // a probe of RFC 5227 claims nothing
	if target := netip.AddrFrom4([4]byte(b[24:28])); op == opRequest && target != m.Address {
		m.Asks, m.Target = true, target
	}
	return m, true
}

func parseND(m Message, b []byte) (Message, bool) {
	if len(b) < ipv6Len+24 || b[0]>>4 != 6 || b[6] != protoICMPv6 || b[7] != 255 {
		return m, false
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < 24 || len(b) < ipv6Len+n {
		return m, false
	}
	b = b[:ipv6Len+n]
	body := b[ipv6Len:]
	if body[1] != 0 || checksum(b) != 0 {
		return m, false
	}
	from, target := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(body[8:24]))
	switch body[0] {
	case typeSolicit:
		m.Asks, m.Target, m.Address = true, target, from
		m.MAC, _ = linkOption(body[24:], optSourceLink)
		if m.MAC.IsZero() {
			m.MAC = m.Source
		}
		m.Claim = !from.IsUnspecified()
	case typeAdvertise:
		m.Claim, m.Address = true, target
		link, has := linkOption(body[24:], optTargetLink)
		if !has {
			link = m.Source // RFC 4861 section 4.4: left out when the asker must know it
		}
		m.MAC = link
	default:
		return m, false
	}
	return m, true
}

// linkOption finds a link-layer address among the options.
func linkOption(b []byte, kind byte) (MAC, bool) {
	for len(b) >= 8 {
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			return MAC{}, false
		}
		if b[0] == kind {
			return MAC(b[2:8]), true
		}
		b = b[n:]
	}
	return MAC{}, false
}
