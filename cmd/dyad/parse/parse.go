// Package parse reads what operators type: numbers, addresses, ranges, checks
// and times. It is pure; flags, files and the hcs cmdlets share it, so that one
// mistake gets one answer everywhere. It decides what can be read; what is
// allowed, such as which ASN, the rules in projections decide.
package parse

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"dyad/eventlog"
)

// Error is an input that makes no sense: what, why, and the value or command
// that fixes it.
type Error struct{ What, Why, Fix string }

func (e *Error) Error() string {
	s := e.What + ": " + e.Why
	if e.Fix != "" {
		s += "\n  try: " + e.Fix
	}
	return s
}

func fail(what, fix, why string, args ...any) error {
	return &Error{What: what, Why: fmt.Sprintf(why, args...), Fix: fix}
}

// ASNRanges words what an ASN may be.
const ASNRanges = "1–65534 (16 bit) or 131072–4294967294 (32 bit)"

// ASN reads an ASN in asplain (RFC 5396). Any whole number of 64 bits is read:
// the rules say which ones are allowed. what names the input, such as
// --peer-asn.
func ASN(what, s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err == nil {
		return n, nil
	}
	fix := "give a number, such as 64512"
	if hi, lo, ok := strings.Cut(s, "."); ok {
		h, err1 := strconv.ParseUint(hi, 10, 16)
		l, err2 := strconv.ParseUint(lo, 10, 16)
		if err1 == nil && err2 == nil {
			fix = fmt.Sprintf("%d, which is %s without the dot", h<<16|l, s)
		}
	}
	return 0, fail(label(what, s), fix, "an ASN is a whole number, %s", ASNRanges)
}

// HoldTime reads a hold time in seconds. Any whole number of 64 bits is read.
func HoldTime(what, s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0, fail(label(what, s), "give a number, such as 15, or leave it out for 90",
			"a hold time is a whole number of seconds: 0 (never expires) or 3–65535")
	}
	return n, nil
}

// Address reads an IP address without a zone. Names are not looked up: an
// address that changes under its name would be a change nobody made.
func Address(what, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	switch {
	case err != nil && strings.Contains(s, "/"):
		return netip.Addr{}, fail(label(what, s), "leave out the / and what follows", "it is a prefix, and one address is needed")
	case err != nil && looksLikeName(s):
		return netip.Addr{}, fail(label(what, s), "give its address: getent hosts "+s, "it is a name, and names are not looked up")
	case err != nil:
		return netip.Addr{}, fail(label(what, s), "give one such as 192.0.2.1 or 2001:db8::1", "it is not an IP address")
	case a.Zone() != "":
		return netip.Addr{}, fail(label(what, s), "give the global address, without the % and what follows",
			"its zone names an interface of one node, and this is for both")
	}
	return a.Unmap(), nil
}

// looksLikeName tells a host name from a mistyped address.
func looksLikeName(s string) bool {
	letters := false
	for _, r := range s {
		switch {
		case r >= 'g' && r <= 'z', r >= 'G' && r <= 'Z', r == '-':
			letters = true
		case r >= 'a' && r <= 'f', r >= 'A' && r <= 'F', r >= '0' && r <= '9', r == '.':
		default:
			return false
		}
	}
	return letters
}

// Ranges reads ranges of addresses: prefixes, first-last, single addresses. An
// argument may hold several with commas between them.
func Ranges(args []string) ([]eventlog.Range, error) {
	var out []eventlog.Range
	for _, arg := range args {
		for _, s := range strings.Split(arg, ",") {
			r, err := eventlog.ParseRange(s)
			if err != nil {
				return nil, fail("range "+quote(s), "give 192.0.2.0/24, 192.0.2.10-192.0.2.20 or one address", "%s", err)
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// OneOf reads a word out of few.
func OneOf(what, s string, words ...string) (string, error) {
	for _, w := range words {
		if s == w {
			return w, nil
		}
	}
	return "", fail(label(what, s), "use one of: "+strings.Join(words, ", "), "there is no such value")
}

// maxShown bounds how much of a wrong input an error repeats, in bytes.
const maxShown = 80

func quote(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "…"
	}
	return strconv.Quote(s)
}

func label(what, s string) string { return what + " " + quote(s) }
