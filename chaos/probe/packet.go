package probe

import (
	"encoding/binary"
	"fmt"
)

// Wire format of a probe: magic, stream (4 bytes), run (8), seq (8), all big
// endian. The answer repeats it and adds the responder's name.
const (
	magic      = "dyp1"
	probeSize  = 4 + 4 + 8 + 8
	maxPacket  = 512
	maxName    = 64 // bytes of a responder's name
	answerSize = probeSize + maxName
)

type packet struct {
	stream uint32
	run    uint64
	seq    uint64
}

func (p packet) append(b []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, p.stream)
	b = binary.BigEndian.AppendUint64(b, p.run)
	return binary.BigEndian.AppendUint64(b, p.seq)
}

// parse reads a probe or an answer; rest is what follows the probe.
func parse(b []byte) (p packet, rest []byte, err error) {
	if len(b) < probeSize || string(b[:4]) != magic {
		return packet{}, nil, fmt.Errorf("%d bytes that are not a probe", len(b))
	}
	p.stream = binary.BigEndian.Uint32(b[4:])
	p.run = binary.BigEndian.Uint64(b[8:])
	p.seq = binary.BigEndian.Uint64(b[16:])
	return p, b[probeSize:], nil
}
