package beat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"dyad/neighbor"
	"dyad/neighbor/rawnet"
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
		if s.arp, err = rawnet.OpenARP(i.Index); err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
	}
	if v6 {
		if s.ndp, err = rawnet.OpenND(i.Index); err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
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

// refused tells whether the other node's kernel says that nobody listens.
func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }
