package neighbor

import (
	"encoding/binary"
	"net/netip"
)

// MAC is an Ethernet address.
type MAC [6]byte

// IsZero tells whether the address is not known.
func (m MAC) IsZero() bool { return m == MAC{} }

// Broadcast is every station's address.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Ethernet and protocol numbers.
const (
	EtherTypeARP  = 0x0806
	EtherTypeIPv6 = 0x86dd

	opRequest = 1
	opReply   = 2

	protoICMPv6   = 58
	typeSolicit   = 135
	typeAdvertise = 136

	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20

	optSourceLink = 1
	optTargetLink = 2
)

// MaxFrame is the length of the longest frame that is built here, in bytes.
const MaxFrame = headerLen + ipv6Len + icmpLen

const (
	headerLen = 14
	arpLen    = 28
	ipv6Len   = 40
	icmpLen   = 32 // with one link-layer address option
	optionLen = 8
)

// AnnounceRequest is a gratuitous ARP request, or for IPv6 an unsolicited
// advertisement with the override flag: it tells everybody on the segment that
// address is at owner. src is who sends the frame.
func AnnounceRequest(src, owner MAC, address netip.Addr) []byte {
	if address.Is4() {
		return arp(Broadcast, src, opRequest, owner, address, MAC{}, address)
	}
	return advertise(src, multicastMAC(allNodes), owner, address, address, allNodes, flagRouter|flagOverride)
}

// AnnounceReply is the same as an ARP reply: some systems believe one form only.
// For IPv6 there is one form, and it is built again.
func AnnounceReply(src, owner MAC, address netip.Addr) []byte {
	if address.Is4() {
		return arp(Broadcast, src, opReply, owner, address, Broadcast, address)
	}
	return AnnounceRequest(src, owner, address)
}

// Question asks who has the target: an ARP request or a neighbor solicitation
// from the given own address. to is the MAC it goes to; the zero MAC asks
// everybody.
func Question(src MAC, own netip.Addr, to MAC, target netip.Addr) []byte {
	if target.Is4() {
		if to.IsZero() {
			to = Broadcast
		}
		return arp(to, src, opRequest, src, own, MAC{}, target)
	}
	dst := target
	if to.IsZero() {
		dst = SolicitedNode(target)
		to = multicastMAC(dst)
	}
	return icmp(src, to, own, dst, typeSolicit, 0, target, optSourceLink, src)
}

// Probe asks whether anybody has the target, and claims nothing: an ARP probe
// (RFC 5227 section 2.1.1) or the solicitation of duplicate address detection
// (RFC 4862 section 5.4.2).
func Probe(src MAC, target netip.Addr) []byte {
	if target.Is4() {
		return arp(Broadcast, src, opRequest, src, netip.IPv4Unspecified(), MAC{}, target)
	}
	group := SolicitedNode(target)
	return icmp(src, multicastMAC(group), netip.IPv6Unspecified(), group, typeSolicit, 0, target, 0, MAC{})
}

// Answer answers a [Question] with owner as the place of address. Who probes has
// no address yet (asker is unspecified); for IPv6 the answer then goes to
// everybody, unasked (RFC 4861 section 7.2.4).
func Answer(src, owner MAC, address netip.Addr, to MAC, asker netip.Addr) []byte {
	if address.Is4() {
		return arp(to, src, opReply, owner, address, to, asker)
	}
	if asker.IsUnspecified() {
		return AnnounceRequest(src, owner, address)
	}
	return advertise(src, to, owner, address, address, asker, flagRouter|flagSolicited|flagOverride)
}

func arp(dst, src MAC, op uint16, sha MAC, spa netip.Addr, tha MAC, tpa netip.Addr) []byte {
	b := make([]byte, 0, headerLen+arpLen)
	b = header(b, dst, src, EtherTypeARP)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, sha[:]...)
	b = append(b, spa.AsSlice()...)
	b = append(b, tha[:]...)
	return append(b, tpa.AsSlice()...)
}

func header(b []byte, dst, src MAC, etherType uint16) []byte {
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

func advertise(src, to, owner MAC, from, target, dst netip.Addr, flags byte) []byte {
	return icmp(src, to, from, dst, typeAdvertise, flags, target, optTargetLink, owner)
}

// icmp builds a neighbor solicitation or advertisement with one link-layer
// address option, or none if option is 0. Its hop limit is 255, or nobody
// believes it.
func icmp(src, to MAC, from, dst netip.Addr, kind, flags byte, target netip.Addr, option byte, link MAC) []byte {
	b := make([]byte, 0, MaxFrame)
	b = header(b, to, src, EtherTypeIPv6)
	length := byte(icmpLen)
	if option == 0 {
		length -= optionLen
	}
	b = append(b, 0x60, 0, 0, 0, 0, length, protoICMPv6, 255)
	b = append(b, from.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	b = append(b, kind, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, target.AsSlice()...)
	if option != 0 {
		b = append(b, option, 1)
		b = append(b, link[:]...)
	}
	binary.BigEndian.PutUint16(b[headerLen+ipv6Len+2:], checksum(b[headerLen:]))
	return b
}

// checksum is that of RFC 4443 section 2.3 over an IPv6 packet that holds ICMPv6.
func checksum(packet []byte) uint16 {
	body := packet[ipv6Len:]
	sum := uint32(len(body)) + protoICMPv6
	for _, part := range [][]byte{packet[8:ipv6Len], body} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

var allNodes = netip.MustParseAddr("ff02::1")

// SolicitedNode is the multicast address of RFC 4291 section 2.7.1.
func SolicitedNode(a netip.Addr) netip.Addr {
	x := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: x[13], 14: x[14], 15: x[15]})
}

func multicastMAC(group netip.Addr) MAC {
	x := group.As16()
	return MAC{0x33, 0x33, x[12], x[13], x[14], x[15]}
}
