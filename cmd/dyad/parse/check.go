package parse

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dyad/eventlog"
)

const checkForms = "tcp:HOST:PORT, http://HOST/PATH, https://HOST/PATH or exec:COMMAND"

// Check reads a health check: tcp:HOST:PORT, http://URL, https://URL or
// exec:COMMAND. Its times and counts are left at 0, which means the default.
func Check(s string) (*eventlog.Check, error) {
	s = strings.TrimSpace(s)
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case kind == "tcp":
		return tcpCheck(s, rest)
	case kind == "exec" && strings.TrimSpace(rest) != "":
		return &eventlog.Check{Kind: "exec", Target: strings.TrimSpace(rest)}, nil
	case kind == "exec":
		return nil, fail(label("check", s), "exec:/usr/local/bin/healthy", "the command is missing")
	case (kind == "http" || kind == "https") && strings.HasPrefix(rest, "//"):
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			return nil, fail(label("check", s), kind+"://127.0.0.1:8080/healthz", "it is not a URL with a host")
		}
		if u.User != nil {
			return nil, fail("check "+kind+"://…", "exec: with a command that reads the password from a file",
				"a URL with a password would stand in the log for ever")
		}
		return &eventlog.Check{Kind: "http", Target: s}, nil
	}
	return nil, fail(label("check", s), checkForms, "it is none of the kinds of check")
}

func tcpCheck(s, target string) (*eventlog.Check, error) {
	host, port, err := net.SplitHostPort(target)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || perr != nil || n == 0 {
		return nil, fail(label("check", s), "tcp:127.0.0.1:8080, or tcp:[::1]:8080", "tcp: needs a host and a port of 1–65535")
	}
	return &eventlog.Check{Kind: "tcp", Target: net.JoinHostPort(host, port)}, nil
}

// CheckString writes a check as [Check] reads it.
func CheckString(c *eventlog.Check) string {
	switch {
	case c == nil:
		return ""
	case c.Kind == "http":
		return c.Target
	}
	return c.Kind + ":" + c.Target
}

// layouts are the forms of an instant, besides a time ago. Those without an
// offset are in the zone of now.
var layouts = []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly}

// Instant reads a time: how long ago (90s, 10m, 2h30m, 7d) or an instant
// (RFC 3339, or a date with or without a time in now's zone).
func Instant(what, s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, l := range layouts {
		if t, err := time.ParseInLocation(l, s, now.Location()); err == nil {
			return t, nil
		}
	}
	d, err := Ago(s)
	if err != nil {
		return time.Time{}, fail(label(what, s), what+" 10m, or "+what+" "+now.UTC().Add(-time.Hour).Format(time.RFC3339),
			"it is neither how long ago (90s, 10m, 2h, 7d) nor an instant")
	}
	return now.Add(-d), nil
}

// Ago reads a duration of 0 or more; besides Go's units it knows d for days.
func Ago(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if n, err := strconv.ParseUint(days, 10, 16); ok && err == nil {
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fail("duration "+quote(s), "10m", "it is not a duration such as 90s, 10m, 2h or 7d")
	}
	return d, nil
}
