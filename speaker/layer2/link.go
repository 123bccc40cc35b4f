package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dyad/neighbor"
)

// link is an interface as it stands now.
type link struct {
	name  string // of the interface to work on: the bridge or bond of a port
	index int
	mac   neighbor.MAC
	up    bool // and running
	local netip.Addr
}

// maxMasters bounds the way from a port to its bridge or bond, and on.
const maxMasters = 4

// findLink looks an interface up. A port of a bridge or bond has no address and
// sees no questions; what is above it does.
func findLink(name string) (link, error) {
	l, err := netlink.LinkByName(name)
	for range maxMasters {
		if err != nil {
			return link{}, fmt.Errorf("interface %s: %w", name, err)
		}
		above := l.Attrs().MasterIndex
		if above == 0 {
			break
		}
		m, merr := netlink.LinkByIndex(above)
		if merr != nil {
			return link{}, fmt.Errorf("interface %s: what it is a port of: %w", name, merr)
		}
		if t := m.Type(); t != "bridge" && t != "bond" && t != "team" && t != "openvswitch" {
			break // a VRF
		}
		l = m
	}
	a := l.Attrs()
	out := link{name: a.Name, index: a.Index, up: a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_RUNNING != 0}
	if len(a.HardwareAddr) != len(out.mac) {
		return out, fmt.Errorf("interface %s is no Ethernet", a.Name)
	}
	out.mac = neighbor.MAC(a.HardwareAddr)
	out.local = linkLocal(l)
	return out, nil
}

// linkLocal is the interface's own IPv6 address of the link, if it has one.
func linkLocal(l netlink.Link) netip.Addr {
	list, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err != nil {
		return netip.Addr{}
	}
	for _, x := range list {
		if a, ok := netip.AddrFromSlice(x.IP); ok && a.IsLinkLocalUnicast() && x.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			return a
		}
	}
	return netip.Addr{}
}

// watchLinks wakes f for every change of an interface, until done is closed.
func watchLinks(done <-chan struct{}, f func()) error {
	news := make(chan netlink.LinkUpdate, maxLinkNews)
	stop := make(chan struct{})
	err := netlink.LinkSubscribeWithOptions(news, stop, netlink.LinkSubscribeOptions{ErrorCallback: func(error) {}})
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	defer func() {
		close(stop)
		for range news { // until its sender has ended
		}
	}()
	for {
		select {
		case <-done:
			return nil
		case _, ok := <-news:
			if !ok {
				return errors.New("watch interfaces: netlink ended")
			}
			f()
		}
	}
}

// maxLinkNews bounds the changes that wait.
const maxLinkNews = 64
