// Package address puts service addresses on an interface of the host, so that
// it accepts packets for them: each IPv4 address as /32, each IPv6 address as
// /128 (without duplicate address detection, RFC 4862 section 5.4, so it works
// at once, and deprecated, so the host never picks it as a source by itself).
//
// Only what this package put there is ever removed. It knows what it put there
// by an owner file, which is written before an address is added and survives a
// crash. An address that was there before is somebody else's: it is left alone
// and reported.
package address
