package beat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"dyad/neighbor"
)

// trafficClass of heartbeats: CS6, network control.
const trafficClass = 0xc0

// openPath opens a socket that is connected to the other node's, so that its
// kernel's refusals come back as errors.
func openPath(p Path, port int) (fd int, err error) {
	family := unix.AF_INET6
	if p.Local.Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 6)
	if family == unix.AF_INET {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, trafficClass)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass)
	}
	// The time of arrival; [loop.restful] does without if the kernel has none.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	if p.Interface != "" {
		if err = unix.BindToDevice(fd, p.Interface); err != nil {
			return -1, fmt.Errorf("bind to %s: %w", p.Interface, err)
		}
	}
	if err = unix.Bind(fd, sockaddr(p.Local, port)); err != nil {
		return -1, fmt.Errorf("bind to %s: %w", netip.AddrPortFrom(p.Local, uint16(port)), err)
	}
	if err = unix.Connect(fd, sockaddr(p.Remote, port)); err != nil {
		return -1, fmt.Errorf("connect to %s: %w", netip.AddrPortFrom(p.Remote, uint16(port)), err)
	}
	return fd, nil
}

// stamps tells whether the kernel says when a datagram came on a socket.
func stamps(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS)
	return err == nil && v != 0
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: a.As16()}
}

// segment is an interface with its packet sockets: one for ARP, one for neighbor
// discovery where it is needed.
type segment struct {
	name     string
	mac      neighbor.MAC
	arp, ndp int // -1 where not needed
	opening  bool
	serial   int    // of the targets it was opened for
	err      error  // why it could not be
	told     string // why it can't be opened, as the agent knows it
}

// openSegment opens an interface for raw frames. Errors: no such interface, no
// Ethernet, no CAP_NET_RAW.
func openSegment(name string, v4, v6 bool) (s segment, err error) {
	s = segment{name: name, arp: -1, ndp: -1}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return s, fmt.Errorf("interface %s: %w", name, err)
	}
	if len(i.HardwareAddr) != len(s.mac) {
		return s, fmt.Errorf("interface %s is no Ethernet", name)
	}
	s.mac = neighbor.MAC(i.HardwareAddr)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if v4 {
		if s.arp, err = openPacket(i.Index, neighbor.EtherTypeARP, nil); err != nil {
			return s, err
		}
	}
	if v6 {
		if s.ndp, err = openPacket(i.Index, neighbor.EtherTypeIPv6, onlyND); err != nil {
			return s, err
		}
		// Questions for an address we hold go to a group that the host has not joined.
		err = unix.SetsockoptPacketMreq(s.ndp, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(i.Index), Type: unix.PACKET_MR_ALLMULTI})
		if err != nil {
			return s, fmt.Errorf("hear all groups on %s: %w", name, err)
		}
	}
	return s, nil
}

func (s *segment) close() {
	for _, fd := range []int{s.arp, s.ndp} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	s.arp, s.ndp = -1, -1
}

// fd is the socket for frames about an address.
func (s *segment) fd(a netip.Addr) int {
	if a.Is4() {
		return s.arp
	}
	return s.ndp
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

func openPacket(ifindex, etherType int, filter []unix.SockFilter) (fd int, err error) {
	// Protocol 0 receives nothing until the socket is bound, filter and all.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w; grant CAP_NET_RAW", err)
	}
	if filter != nil {
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: hton(uint16(etherType)), Ifindex: ifindex})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind a packet socket: %w", err)
	}
	return fd, nil
}

func hton(v uint16) uint16 { return v<<8 | v>>8 }

// refused tells whether the other node's kernel says that nobody listens.
func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }
