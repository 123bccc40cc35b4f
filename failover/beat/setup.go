package beat

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"dyad/failover/pulse"
)

// Path is one way to the other node. Both nodes list their paths in the same
// order.
type Path struct {
	Name string `json:"name"` // for people: interlink, or the switch
	// Interface binds the socket to a device; empty leaves it to the routes.
	Interface string     `json:"interface,omitempty"`
	Local     netip.Addr `json:"local"`
	Remote    netip.Addr `json:"remote"`
}

// Target is an address that is asked on the wire.
type Target struct {
	Class     pulse.Class `json:"class"`
	Interface string      `json:"interface"`
	Own       netip.Addr  `json:"own"` // this node's address on that segment
	Address   netip.Addr  `json:"address"`
}

// Setup is everything the process needs to know. The newest one counts.
type Setup struct {
	Self string `json:"self"`
	Peer string `json:"peer"` // empty: there is no other node; rest
	// Key is the heartbeats' own key (pulse.DeriveKey), not the cluster's secret.
	Key      []byte        `json:"key"`
	Interval time.Duration `json:"interval_ns"`
	Misses   int           `json:"misses"`
	Port     int           `json:"port"` // UDP, on both nodes
	Paths    []Path        `json:"paths"`
	Targets  []Target      `json:"targets"`
}

// sameBeat tells whether only paths and targets differ.
func (s Setup) sameBeat(o Setup) bool {
	return s.Self == o.Self && s.Peer == o.Peer && slices.Equal(s.Key, o.Key) && s.Interval == o.Interval &&
		s.Misses == o.Misses && s.Port == o.Port
}

func (s Setup) equal(o Setup) bool {
	return s.sameBeat(o) && slices.Equal(s.Paths, o.Paths) && slices.Equal(s.Targets, o.Targets)
}

// names tells whether a path or a segment has that name.
func (s Setup) names(name string) bool {
	return slices.ContainsFunc(s.Paths, func(p Path) bool { return p.Name == name }) ||
		slices.ContainsFunc(s.Targets, func(t Target) bool { return t.Interface == name })
}

// FeedBound is how long the agent may keep silent before its pulse calls it
// hung. It must be fed several times within it.
const FeedBound = time.Second

// Feed is what the agent tells its pulse all the time.
type Feed struct {
	pulse.Word
	// Armed lets the pulse take over next hops.
	Armed bool
}

// Frames from the agent: a type, a length of four bytes, the payload.
const (
	frameSetup = 'S'
	frameFeed  = 'F'
	frameBye   = 'B'

	feedLen = 22
	// maxSetup bounds a setup in bytes: it fits a pipe, so that writing it never
	// waits for more than the process.
	maxSetup = 48 << 10
)

func encodeFeed(f Feed) []byte {
	b := make([]byte, 0, feedLen)
	armed := byte(0)
	if f.Armed {
		armed = 1
	}
	b = append(b, byte(f.Flags), f.Mode, f.Stance, f.SessionsUp, f.SessionsWanted, armed)
	b = binary.BigEndian.AppendUint64(b, f.Epoch)
	return binary.BigEndian.AppendUint64(b, f.Seq)
}

func decodeFeed(b []byte) (f Feed, ok bool) {
	if len(b) != feedLen {
		return f, false
	}
	f.Flags, f.Mode, f.Stance = pulse.Flags(b[0]), b[1], b[2]
	f.SessionsUp, f.SessionsWanted, f.Armed = b[3], b[4], b[5] != 0
	f.Epoch, f.Seq = binary.BigEndian.Uint64(b[6:]), binary.BigEndian.Uint64(b[14:])
	return f, true
}

func encodeSetup(s Setup) ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the pulse's setup: %w", err)
	}
	if len(b) > maxSetup {
		return nil, fmt.Errorf("the pulse's setup has %d bytes, more than %d; use fewer switches or peers", len(b), maxSetup)
	}
	return b, nil
}

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	b := make([]byte, 0, 5+len(payload))
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	_, err := w.Write(append(b, payload...))
	return err
}

// errFrame: the agent and its pulse are not of the same release, or worse.
var errFrame = errors.New("the agent sent something that is no frame")

// nextFrame cuts one frame from b; kind is 0 if there is no whole one yet.
func nextFrame(b []byte) (kind byte, payload, rest []byte, err error) {
	if len(b) < 5 {
		return 0, nil, b, nil
	}
	n := binary.BigEndian.Uint32(b[1:])
	if n > maxSetup {
		return 0, nil, nil, errFrame
	}
	if len(b) < 5+int(n) {
		return 0, nil, b, nil
	}
	return b[0], b[5 : 5+n], b[5+n:], nil
}

// Report is one line from the process to the agent.
type Report struct {
	// Kind is that of a pulse.Event, or one of the kinds below.
	Kind string `json:"kind"`
	// At is when it was seen, in Unix nanoseconds by this host's clock.
	At      int64         `json:"at"`
	Path    string        `json:"path,omitempty"`
	Silence time.Duration `json:"silence_ns,omitempty"`
	Word    *pulse.Word   `json:"word,omitempty"`
	Boot    uint64        `json:"boot,omitempty"`
	Address netip.Addr    `json:"address,omitzero"`
	// Interface is where a next hop was taken.
	Interface string        `json:"interface,omitempty"`
	Why       string        `json:"why,omitempty"`
	Counts    *pulse.Counts `json:"counts,omitempty"`
}

// Kinds of reports that are no events of the detector.
const (
	reportReady     = "ready"     // Why says what real-time property is missing
	reportTook      = "took"      // a next hop: Address, Interface
	reportGave      = "gave"      // likewise
	reportDefended  = "defended"  // an own next hop that somebody else had claimed
	reportPathError = "patherror" // Path can't be used: Why; empty Why: it can
	reportCounts    = "counts"
)
