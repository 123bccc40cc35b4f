package layer2

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"dyad/neighbor"
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
	if p.arp, err = openPacket(index, neighbor.EtherTypeARP, nil); err != nil {
		return nil, err
	}
	if p.ndp, err = openPacket(index, neighbor.EtherTypeIPv6, onlyND); err != nil {
		p.close()
		return nil, err
	}
	// Questions go to groups that the host joins, and the network card may not know
	// them yet.
	err = unix.SetsockoptPacketMreq(p.ndp.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI})
	if err != nil {
		p.close()
		return nil, fmt.Errorf("hear all groups: %w", err)
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

// onlyND lets neighbor solicitations and advertisements through: next header 58,
// type 135 or 136.
var onlyND = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 20},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 58, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 54},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 135, Jt: 2},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 136, Jt: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
}

func openPacket(ifindex, etherType int, filter []unix.SockFilter) (_ *packet, err error) {
	// Protocol 0 receives nothing until the socket is bound, filter and all.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w; grant CAP_NET_RAW", err)
	}
	if filter != nil {
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
	}
	if err == nil {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 6)
		// Network byte order.
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(etherType)<<8 | uint16(etherType)>>8, Ifindex: ifindex})
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind a packet socket: %w", err)
	}
	return &packet{fd: fd, file: os.NewFile(uintptr(fd), "packet")}, nil
}
