package netlab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// BFD is how a session is guarded by BFD, single hop, asynchronous mode (RFC 5880
// and RFC 5881).
type BFD struct {
	// Interval of sending and of receiving; FRR takes no less than 10 ms.
	Interval time.Duration `json:"interval_ns"`
	// Multiplier is how many packets may be missed, 2–255.
	Multiplier int `json:"multiplier"`
}

// Guarded is a router whose sessions are guarded by BFD.
type Guarded interface {
	RouterControl
	// BFD is the state of BFD with each peer, as the router calls it; "up", in
	// any case of letters, means the same with all of them.
	BFD(ctx context.Context) (map[netip.Addr]string, error)
	// Dropped counts the established sessions that ended since it was started.
	Dropped(ctx context.Context) (int, error)
}

// NewGuarded returns the control of a router with BFD, FRR or BIRD.
func NewGuarded(kind string, c RouterConfig) (Guarded, error) {
	r, err := NewRouter(kind, c)
	if err != nil {
		return nil, err
	}
	g, ok := r.(Guarded)
	if !ok || c.BFD == nil {
		return nil, fmt.Errorf("the %s router of %s has no BFD", kind, c.NS)
	}
	return g, nil
}

func (f *frr) BFD(ctx context.Context) (map[netip.Addr]string, error) {
	text, err := f.vtysh(ctx, "show bfd peers json")
	if err != nil {
		return nil, err
	}
	var peers []struct {
		Peer   netip.Addr `json:"peer"`
		Status string     `json:"status"`
	}
	if err := json.Unmarshal([]byte(text), &peers); err != nil {
		return nil, fmt.Errorf("read FRR's BFD peers: %w", err)
	}
	out := map[netip.Addr]string{}
	for _, p := range peers {
		out[p.Peer] = p.Status
	}
	return out, nil
}

func (f *frr) Dropped(ctx context.Context) (int, error) {
	text, err := f.vtysh(ctx, "show bgp neighbors json")
	if err != nil {
		return 0, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return 0, fmt.Errorf("read FRR's neighbours: %w", err)
	}
	sum := 0
	for name, raw := range all {
		if _, err := netip.ParseAddr(name); err != nil {
			continue // not a neighbour but a figure of the whole
		}
		var n struct {
			Dropped int `json:"connectionsDropped"`
		}
		if err := json.Unmarshal(raw, &n); err != nil {
			return 0, fmt.Errorf("read FRR's neighbour %s: %w", name, err)
		}
		sum += n.Dropped
	}
	return sum, nil
}

func (b *bird) BFD(ctx context.Context) (map[netip.Addr]string, error) {
	text, err := b.birdc(ctx, "show", "bfd", "sessions")
	if err != nil {
		return nil, err
	}
	return birdBFD(text), nil
}

// birdBFD reads the table of BIRD's BFD sessions: address, interface, state, since,
// interval, timeout.
func birdBFD(text string) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err == nil {
			out[a] = f[2]
		}
	}
	return out
}

// birdDown is what BIRD logs when BFD ends a session.
const birdDown = "BFD session down"

func (b *bird) Dropped(context.Context) (int, error) {
	text, err := os.ReadFile(b.path(birdLog))
	if err != nil {
		return 0, fmt.Errorf("read BIRD's log: %w", err)
	}
	return strings.Count(string(text), birdDown), nil
}
