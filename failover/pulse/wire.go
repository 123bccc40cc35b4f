package pulse

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"time"
)

// The wire format, version 1, big endian. Fields are only ever added, with a
// new version; a node ignores versions it does not know.
//
//	 0  magic "dP"       18  to, 8             58  echo boot, 8
//	 2  version          26  boot, 8           66  echo counter, 8
//	 3  flags            34  counter, 8        74  interval / 100 µs, 2
//	 4  path             42  epoch, 8          76  MAC, 16 (HMAC-SHA256, cut)
//	 5  mode             50  head seq, 8
//	 6  stance
//	 7  heard, one bit for each path
//	 8  sessions up, 9 wanted
//	10  from, 8
const (
	// Size is the length of a heartbeat in bytes.
	Size    = macAt + macLen
	version = 1
	macAt   = 76
	macLen  = 16

	intervalUnit = 100 * time.Microsecond
)

// MaxPaths bounds the paths between two nodes.
const MaxPaths = 8

// KeyLen is the length of a key from [DeriveKey], in bytes.
const KeyLen = 32

// DeriveKey makes the heartbeat's key from the cluster's secret, so that the
// process which sends heartbeats never holds the secret itself. Errors: a secret
// shorter than 16 bytes.
func DeriveKey(secret []byte) ([]byte, error) {
	if len(secret) < 16 {
		return nil, errors.New("the cluster's secret has fewer than 16 bytes")
	}
	return hkdf.Key(sha256.New, secret, nil, "dyad/pulse/1", KeyLen)
}

// Flags of a heartbeat.
type Flags uint8

// The flags.
const (
	FlagStopping Flags = 1 << iota // a planned stop has begun
	FlagHung                       // the agent does not answer its pulse
	FlagSuspects                   // the sender does not hear the receiver
	FlagIsolated                   // the sender's routers do not answer it
	FlagGone                       // the agent has died: the last words of its pulse
	FlagBye                        // the agent has stopped as planned: likewise
)

// Word is what a node says of itself in each heartbeat.
type Word struct {
	Flags        Flags
	Mode, Stance byte
	// SessionsUp of SessionsWanted routers have an established session.
	SessionsUp, SessionsWanted uint8
	Epoch, Seq                 uint64
}

// Heartbeat is one opened heartbeat.
type Heartbeat struct {
	Word
	Path          uint8
	Heard         uint8 // bit p: the sender hears the receiver on path p
	Boot, Counter uint64
	// EchoBoot and EchoCounter are the newest heartbeat of the receiver that the
	// sender has on this path.
	EchoBoot, EchoCounter uint64
	Interval              time.Duration
}

// Why a datagram is no heartbeat of the other node.
var (
	ErrForeign = errors.New("not a heartbeat")
	ErrVersion = errors.New("a heartbeat of an unknown version")
	ErrForged  = errors.New("a heartbeat sealed with another key")
	ErrAddress = errors.New("a heartbeat between other nodes")
)

// Codec seals and opens the heartbeats between two nodes. It is not safe for
// use by several goroutines.
type Codec struct {
	self, peer [8]byte
	mac        hash.Hash
	sum        [sha256.Size]byte
}

// NewCodec returns the codec of self for its pair with peer. Errors: a key that
// is not [KeyLen] bytes, or twice the same name.
func NewCodec(key []byte, self, peer string) (*Codec, error) {
	if len(key) != KeyLen {
		return nil, fmt.Errorf("the pulse's key has %d bytes, not %d", len(key), KeyLen)
	}
	if self == peer {
		return nil, fmt.Errorf("%q can't be its own other node", self)
	}
	return &Codec{self: nodeID(self), peer: nodeID(peer), mac: hmac.New(sha256.New, key)}, nil
}

// nodeID is a node's name in eight bytes.
func nodeID(name string) [8]byte {
	sum := sha256.Sum256([]byte("dyad/node/" + name))
	return [8]byte(sum[:8])
}

func (c *Codec) seal(b []byte) []byte {
	c.mac.Reset()
	_, _ = c.mac.Write(b)
	return c.mac.Sum(c.sum[:0])[:macLen]
}

// Seal writes h into buf, which must have room for [Size] bytes, and returns
// the datagram.
func (c *Codec) Seal(buf []byte, h *Heartbeat) []byte {
	b := buf[:Size]
	b[0], b[1], b[2], b[3] = 'd', 'P', version, byte(h.Flags)
	b[4], b[5], b[6], b[7] = h.Path, h.Mode, h.Stance, h.Heard
	b[8], b[9] = h.SessionsUp, h.SessionsWanted
	copy(b[10:], c.self[:])
	copy(b[18:], c.peer[:])
	for at, v := range [...]uint64{h.Boot, h.Counter, h.Epoch, h.Seq, h.EchoBoot, h.EchoCounter} {
		binary.BigEndian.PutUint64(b[26+8*at:], v)
	}
	binary.BigEndian.PutUint16(b[74:], uint16(min(h.Interval/intervalUnit, 1<<16-1)))
	copy(b[macAt:], c.seal(b[:macAt]))
	return b
}

// Open reads a datagram into h. Errors: [ErrForeign], [ErrVersion],
// [ErrForged], [ErrAddress]; h then means nothing.
func (c *Codec) Open(b []byte, h *Heartbeat) error {
	switch {
	case len(b) < 3 || b[0] != 'd' || b[1] != 'P':
		return ErrForeign
	case b[2] != version:
		return ErrVersion
	case len(b) != Size:
		return ErrForeign
	case !hmac.Equal(c.seal(b[:macAt]), b[macAt:]):
		return ErrForged
	case [8]byte(b[10:18]) != c.peer || [8]byte(b[18:26]) != c.self:
		return ErrAddress
	}
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	*h = Heartbeat{
		Word: Word{
			Flags: Flags(b[3]), Mode: b[5], Stance: b[6], SessionsUp: b[8], SessionsWanted: b[9],
			Epoch: u64(42), Seq: u64(50),
		},
		Path: b[4], Heard: b[7], Boot: u64(26), Counter: u64(34), EchoBoot: u64(58), EchoCounter: u64(66),
		Interval: time.Duration(binary.BigEndian.Uint16(b[74:])) * intervalUnit,
	}
	return nil
}
