package eventlog

import (
	"fmt"
	"math/big"
	"net/netip"
	"strings"
)

// Range is an inclusive run of addresses of one family.
//
// Invariant: First and Last are of one family, without zone, First ≤ Last.
type Range struct {
	First, Last netip.Addr
}

// ParseRange reads "192.0.2.0/24", "192.0.2.10-192.0.2.20" or one address. A
// prefix means every address in it: a /31 is two addresses, a /32 one. Host
// bits after the prefix length, a reversed run, mixed families and zones are
// errors.
func ParseRange(s string) (Range, error) {
	s = strings.TrimSpace(s)
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Range{}, fmt.Errorf("%q is not a prefix such as 192.0.2.0/24", s)
		}
		// An IPv4 address written as IPv6 is the IPv4 address.
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		if p.Masked() != p {
			return Range{}, fmt.Errorf("%q has host bits set; the prefix is %s", s, p.Masked())
		}
		return PrefixRange(p), nil
	}
	first, last, dashed := strings.Cut(s, "-")
	if !dashed {
		last = first
	}
	a, err := parseBare(first)
	if err != nil {
		return Range{}, err
	}
	b, err := parseBare(last)
	if err != nil {
		return Range{}, err
	}
	if a.Is4() != b.Is4() {
		return Range{}, fmt.Errorf("%q mixes IPv4 and IPv6", s)
	}
	if b.Less(a) {
		return Range{}, fmt.Errorf("%q runs backwards; write %s-%s", s, b, a)
	}
	return Range{a, b}, nil
}

func parseBare(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", strings.TrimSpace(s))
	}
	if a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q carries a zone; pools hold addresses without one", s)
	}
	return a.Unmap(), nil
}

// PrefixRange is the range of all addresses in p; the zero Range if p is not
// valid.
func PrefixRange(p netip.Prefix) Range {
	if !p.IsValid() {
		return Range{}
	}
	first := p.Masked().Addr()
	b := first.AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	return Range{first, last}
}

// Contains tells whether a lies in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.Is4() == r.First.Is4() && !a.Less(r.First) && !r.Last.Less(a)
}

// Overlaps tells whether the two ranges share an address.
func (r Range) Overlaps(o Range) bool {
	return r.First.Is4() == o.First.Is4() && !r.Last.Less(o.First) && !o.Last.Less(r.First)
}

// Size is the number of addresses, which for IPv6 may exceed 64 bits.
func (r Range) Size() *big.Int {
	if !r.First.IsValid() {
		return new(big.Int)
	}
	lo := new(big.Int).SetBytes(r.First.AsSlice())
	hi := new(big.Int).SetBytes(r.Last.AsSlice())
	return hi.Sub(hi, lo).Add(hi, big.NewInt(1))
}

// String writes a prefix where the range is one, and first-last otherwise.
func (r Range) String() string {
	if !r.First.IsValid() {
		return ""
	}
	if r.First == r.Last {
		return r.First.String()
	}
	for bits := r.First.BitLen() - 1; bits >= 0; bits-- {
		p := netip.PrefixFrom(r.First, bits)
		if p.Masked() != p {
			break
		}
		if PrefixRange(p).Last == r.Last {
			return p.String()
		}
	}
	return r.First.String() + "-" + r.Last.String()
}

// MarshalText writes the range as [Range.String] does.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [ParseRange] accepts.
func (r *Range) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRange(string(b))
	return err
}
