// Package neighbor builds and reads the frames of address resolution: ARP for
// IPv4 (RFC 826, RFC 5227) and neighbor discovery for IPv6 (RFC 4861). It is
// pure: frames are byte slices with their Ethernet header, and whoever has a
// packet socket sends them.
//
// The announcing frames make a router's neighbor cache say that an address is
// at a given MAC. The Ethernet source is always the sender's own MAC, so that
// no switch learns a wrong port.
package neighbor
