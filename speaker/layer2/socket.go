package layer2

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"dyad/neighbor"
	"dyad/neighbor/rawnet"
)

// sendBuffer is what the kernel may hold of frames to send, in bytes: a takeover
// of ten thousand addresses at once.
const sendBuffer = 8 << 20

// port is an interface that is open for raw frames.
type port struct {
	index int
	mac   neighbor.MAC
	arp   *packet
	ndp   *packet
}

// packet is one packet socket. fd is for writing without waiting, file for
// reading.
type packet struct {
	fd   int
	file *os.File
}

// openPort opens an interface for raw frames. Errors: it is gone, or no
// CAP_NET_RAW.
func openPort(index int, mac neighbor.MAC) (*port, error) {
	p := &port{index: index, mac: mac}
	var err error
	if p.arp, err = opened(rawnet.OpenARP(index)); err != nil {
		return nil, err
	}
	if p.ndp, err = opened(rawnet.OpenND(index)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *port) close() {
	for _, s := range []*packet{p.arp, p.ndp} {
		if s != nil {
			_ = s.file.Close()
		}
	}
}

// send sends a frame about an address; a lost one is repeated by the machine.
func (p *port) send(a netip.Addr, frame []byte) error {
	s := p.ndp
	if a.Is4() {
		s = p.arp
	}
	_, err := unix.Write(s.fd, frame)
	return err
}

// gone tells whether an error means that the socket is of no use any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrClosed)
}

// opened makes room for frames to send, and gives them the network's priority.
func opened(fd int, err error) (*packet, error) {
	if err != nil {
		return nil, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 6)
	return &packet{fd: fd, file: os.NewFile(uintptr(fd), "packet")}, nil
}
