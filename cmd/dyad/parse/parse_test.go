package parse

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// want checks an outcome: the value's text, or what the error must contain.
func want(t *testing.T, in, got string, err error, value string, says ...string) {
	t.Helper()
	if len(says) == 0 {
		if err != nil || got != value {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, value)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%q: got %q, %v; want an error", in, got, err)
		return
	}
	if e.Fix == "" {
		t.Errorf("%q: the error names no fix: %v", in, err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q: %q does not say %q", in, err, s)
		}
	}
}

func TestASN(t *testing.T) {
	both := []string{"1–65534", "131072–4294967294"}
	for _, c := range []struct {
		in, value string
		says      []string
	}{
		{"64512", "64512", nil},
		{" 4294967294 ", "4294967294", nil},
		{"0", "0", nil}, // the rules refuse it
		{"-1", "-1", nil},
		{"4294967295", "4294967295", nil},
		{"", "", both},
		{"AS64512", "", both},
		{"64512x", "", both},
		{"0x10", "", both},
		{"1e5", "", both},
		{"64 512", "", both},
		{"99999999999999999999", "", both},
		{"-99999999999999999999", "", both},
		{"2.10", "", append(both, "131082, which is 2.10 without the dot")},
		{strings.Repeat("9", 500), "", append(both, "…")},
	} {
		n, err := ASN("--peer-asn", c.in)
		got := ""
		if err == nil {
			got = strconv.FormatInt(n, 10)
		}
		want(t, c.in, got, err, c.value, c.says...)
	}
}

func TestHoldTime(t *testing.T) {
	for in, says := range map[string][]string{
		"15": nil, "0": nil, "1": nil, "65536": nil, "-3": nil,
		"": {"3–65535"}, "15s": {"3–65535", "number"}, "1.5": {"3–65535"}, "99999999999999999999": {"3–65535"},
	} {
		n, err := HoldTime("--hold-time", in)
		got := ""
		if err == nil {
			got = strconv.FormatInt(n, 10)
		}
		want(t, in, got, err, in, says...)
	}
}

func TestAddress(t *testing.T) {
	for _, c := range []struct {
		in, value string
		says      []string
	}{
		{"192.0.2.1", "192.0.2.1", nil},
		{"2001:db8::1", "2001:db8::1", nil},
		{"::ffff:192.0.2.1", "192.0.2.1", nil},
		{"router.example", "", []string{"names are not looked up", "getent hosts router.example"}},
		{"tor", "", []string{"it is a name"}},
		{"fe80::1%eth0", "", []string{"names an interface of one node"}},
		{"192.0.2.0/24", "", []string{"it is a prefix"}},
		{"192.0.2.256", "", []string{"not an IP address"}},
		{"192.0.2", "", []string{"not an IP address"}},
		{"192.0.2.1:179", "", []string{"not an IP address"}},
		{"", "", []string{"not an IP address"}},
		{"a\nb", "", []string{`"a\nb"`}},
	} {
		a, err := Address("peer address", c.in)
		got := ""
		if err == nil {
			got = a.String()
		}
		want(t, c.in, got, err, c.value, c.says...)
	}
}

func TestRanges(t *testing.T) {
	got, err := Ranges([]string{"192.0.2.0/28,192.0.2.32-192.0.2.40", "2001:db8::/64"})
	if err != nil || len(got) != 3 || got[1].String() != "192.0.2.32-192.0.2.40" {
		t.Fatalf("got %v, %v", got, err)
	}
	for in, says := range map[string]string{
		"": "is not an IP address", "192.0.2.1/24": "the prefix is 192.0.2.0/24", "192.0.2.9-192.0.2.1": "backwards",
		"192.0.2.1-::1": "mixes", "web": "is not an IP address", "192.0.2.0/28,": "is not an IP address",
	} {
		_, err := Ranges([]string{in})
		want(t, in, "", err, "", says)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		in, value string
		says      []string
	}{
		{"tcp:127.0.0.1:80", "tcp 127.0.0.1:80", nil},
		{"tcp:[::1]:80", "tcp [::1]:80", nil},
		{"http://127.0.0.1:8080/healthz", "http http://127.0.0.1:8080/healthz", nil},
		{"https://x/", "http https://x/", nil},
		{"exec:/bin/true --now", "exec /bin/true --now", nil},
		{"tcp:80", "", []string{"a host and a port"}},
		{"tcp:host:0", "", []string{"1–65535"}},
		{"tcp:host:65536", "", []string{"1–65535"}},
		{"tcp::80", "", []string{"a host"}},
		{"http:", "", []string{"kinds of check"}},
		{"http://", "", []string{"URL with a host"}},
		{"http://u:p@h/", "", []string{"password"}},
		{"exec:", "", []string{"command is missing"}},
		{"udp:1.1.1.1:1", "", []string{"tcp:HOST:PORT"}},
		{"", "", []string{"tcp:HOST:PORT"}},
	} {
		v, err := Check(c.in)
		got := ""
		if err == nil {
			got = v.Kind + " " + v.Target
			if back := CheckString(v); back != c.in {
				t.Errorf("%q is written back as %q", c.in, back)
			}
		}
		want(t, c.in, got, err, c.value, c.says...)
	}
}

func TestInstant(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	for _, c := range []struct {
		in, value string
		says      []string
	}{
		{"10m", "2026-03-04T11:50:00+01:00", nil},
		{"0s", "2026-03-04T12:00:00+01:00", nil},
		{"7d", "2026-02-25T12:00:00+01:00", nil},
		{"2026-03-04T10:00:00Z", "2026-03-04T10:00:00Z", nil},
		{"2026-03-04T10:00:00.5Z", "2026-03-04T10:00:00.5Z", nil},
		{"2026-03-04", "2026-03-04T00:00:00+01:00", nil},
		{"2026-03-04 09:30", "2026-03-04T09:30:00+01:00", nil},
		{"-10m", "", []string{"how long ago", "--since 10m"}},
		{"yesterday", "", []string{"nor an instant"}},
		{"", "", []string{"nor an instant"}},
		{"99999d", "", []string{"nor an instant"}},
	} {
		at, err := Instant("--since", c.in, now)
		got := ""
		if err == nil {
			got = at.Format(time.RFC3339Nano)
		}
		want(t, c.in, got, err, c.value, c.says...)
	}
}

// Whatever is typed, parsers answer with a value or with an error that names a
// fix, and repeat no control characters.
func TestNothingBreaksAParser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		_, err1 := ASN("a", s)
		_, err2 := HoldTime("h", s)
		_, err3 := Address("p", s)
		_, err4 := Ranges([]string{s})
		_, err5 := Check(s)
		_, err6 := Instant("i", s, time.Unix(0, 0).UTC())
		for _, err := range []error{err1, err2, err3, err4, err5, err6} {
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Fix == "" || strings.ContainsAny(e.What, "\x00\x1b\n")) {
				t.Fatalf("%q: %q", s, err)
			}
		}
	})
}
