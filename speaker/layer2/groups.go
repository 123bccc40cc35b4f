package layer2

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"dyad/neighbor"
)

// groupsEach bounds the groups of one socket: the kernel limits what a socket may
// keep (net.core.optmem_max).
const groupsEach = 64

// groups joins the groups that questions for IPv6 addresses go to, so that switches
// which listen to MLD (RFC 4541) let them through.
type groups struct {
	index   int
	sockets []int
	room    int // in the last socket
	joined  map[netip.Addr]bool
}

// want joins what is not joined yet. Groups are left only by close: an address that
// went may come back, and a group costs nothing.
func (g *groups) want(addresses []netip.Addr) error {
	for _, a := range addresses {
		if a.Is4() {
			continue
		}
		group := neighbor.SolicitedNode(a)
		if g.joined[group] {
			continue
		}
		if err := g.join(group); err != nil {
			return fmt.Errorf("join %s: %w", group, err)
		}
		if g.joined == nil {
			g.joined = map[netip.Addr]bool{}
		}
		g.joined[group] = true
	}
	return nil
}

func (g *groups) join(group netip.Addr) error {
	if g.room == 0 {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		g.sockets, g.room = append(g.sockets, fd), groupsEach
	}
	err := unix.SetsockoptIPv6Mreq(g.sockets[len(g.sockets)-1], unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
		&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.index)})
	if err == nil {
		g.room--
	}
	return err
}

func (g *groups) close() {
	for _, fd := range g.sockets {
		_ = unix.Close(fd)
	}
	*g = groups{}
}
