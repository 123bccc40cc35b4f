package gobgp

import (
	"context"
	"log/slog"
	"net/netip"
)

// tap is GoBGP's logger. It hands every record on at debug level, and the few
// that tell why a session does not come up to note: GoBGP reports the failures
// of a connection that never became a session nowhere else. The messages are
// those of GoBGP v4.8.0; the tests notice if they change.
type tap struct {
	base slog.Handler
	note func(peer netip.Addr, r logged)
	peer netip.Addr // of the attribute Key
}

// logged is what a record says.
type logged struct {
	msg           string
	err           string
	code, subcode uint8
	text          string
}

// Records that matter.
const (
	logConnect  = "failed to connect"
	logIO       = "outgoing connection IO error"
	logSent     = "sent notification"
	logReceived = "received notification"
)

// Enabled is always true: GoBGP writes failed attempts at debug level.
func (t tap) Enabled(context.Context, slog.Level) bool { return true }

func (t tap) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case logConnect, logIO, logSent, logReceived:
		if t.peer.IsValid() {
			t.note(t.peer, read(r))
		}
	}
	if !t.base.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	d := slog.NewRecord(r.Time, slog.LevelDebug, r.Message, r.PC)
	d.AddAttrs(slog.String("event", "speaker.gobgp"), slog.String("reason", r.Level.String()))
	r.Attrs(func(a slog.Attr) bool {
		d.AddAttrs(a)
		return true
	})
	return t.base.Handle(ctx, d)
}

func read(r slog.Record) logged {
	l := logged{msg: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "Error", "reason":
			l.err = a.Value.String()
		case "Code":
			l.code = uint8(a.Value.Int64())
		case "Subcode":
			l.subcode = uint8(a.Value.Int64())
		case "Communicated-Reason":
			l.text = a.Value.String()
		}
		return true
	})
	return l
}

func (t tap) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "Key" {
			if p, err := netip.ParseAddr(a.Value.String()); err == nil {
				t.peer = p
			}
		}
	}
	t.base = t.base.WithAttrs(attrs)
	return t
}

func (t tap) WithGroup(name string) slog.Handler {
	t.base = t.base.WithGroup(name)
	return t
}
