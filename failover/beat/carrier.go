package beat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dyad/failover/pulse"
)

const (
	// netlinkLen has room for what one read of a netlink socket returns, in bytes.
	netlinkLen = 64 << 10
	// maxNetlink bounds the reads of one turn.
	maxNetlink = 64
	// hasCarrier are the flags of an interface that is up and whose lower layer is.
	hasCarrier = unix.IFF_UP | unix.IFF_LOWER_UP
)

// links is what the kernel says of this host's interfaces (rtnetlink(7)).
type links struct {
	fd      int // -1 if the kernel does not tell
	names   map[string]int32
	carrier map[int32]bool
	holder  map[netip.Addr]int32 // which interface has an address
	ask     []uint16             // lists still to be asked for, one at a time
	asking  bool
	buf     []byte
}

// openLinks subscribes to changes and asks for the present state, which comes as
// changes do. Errors: no netlink here; then every interface counts as well.
func openLinks() (links, error) {
	k := links{
		fd: -1, names: map[string]int32{}, carrier: map[int32]bool{}, holder: map[netip.Addr]int32{}, buf: make([]byte, netlinkLen),
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return k, fmt.Errorf("watch the interfaces by netlink: %w", err)
	}
	k.fd = fd
	k.refresh(unix.RTM_GETLINK, unix.RTM_GETADDR)
	return k, nil
}

func (k *links) close() {
	if k.fd >= 0 {
		_ = unix.Close(k.fd)
		k.fd = -1
	}
}

// refresh asks for lists anew: RTM_GETLINK, RTM_GETADDR.
func (k *links) refresh(lists ...uint16) {
	if k.fd < 0 {
		return
	}
	k.ask = append(k.ask[:0], lists...)
	if !k.asking {
		k.askNext()
	}
}

// askNext asks for the next list. The kernel makes one at a time.
func (k *links) askNext() {
	k.asking = false
	if len(k.ask) == 0 {
		return
	}
	var b [unix.SizeofNlMsghdr + 4]byte // a header, and a body that names no family
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], k.ask[0])
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	k.ask = k.ask[1:]
	_, err := write(k.fd, b[:])
	k.asking = err == nil
}

// read takes what the kernel has said, and tells whether there was anything.
func (k *links) read() (news bool) {
	for range maxNetlink {
		n, err := read(k.fd, k.buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // it has said more than we have taken
			k.asking = false
			k.refresh(unix.RTM_GETLINK)
			continue
		case err != nil || n <= 0:
			return news
		}
		list, err := syscall.ParseNetlinkMessage(k.buf[:n])
		if err != nil {
			continue
		}
		news = true
		for i := range list {
			k.take(&list[i])
		}
	}
	return news
}

func (k *links) take(m *syscall.NetlinkMessage) {
	switch m.Header.Type {
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		k.askNext()
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			return
		}
		index, flags := int32(binary.NativeEndian.Uint32(m.Data[4:])), binary.NativeEndian.Uint32(m.Data[8:])
		k.carrier[index] = m.Header.Type == unix.RTM_NEWLINK && flags&hasCarrier == hasCarrier
		if name, ok := attribute(m, unix.IFLA_IFNAME); ok && len(name) > 1 {
			k.names[string(name[:len(name)-1])] = index
		}
	case unix.RTM_NEWADDR:
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return
		}
		index := int32(binary.NativeEndian.Uint32(m.Data[4:]))
		for _, kind := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
			if b, ok := attribute(m, kind); ok {
				if a, ok := netip.AddrFromSlice(b); ok {
					k.holder[a] = index
				}
				return
			}
		}
	}
}

func attribute(m *syscall.NetlinkMessage, kind uint16) ([]byte, bool) {
	list, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return nil, false
	}
	for i := range list {
		if list[i].Attr.Type == kind {
			return list[i].Value, true
		}
	}
	return nil, false
}

// has tells whether an interface has carrier: the one of that name or, without a
// name, the one that holds the address. What is not known has.
func (k *links) has(name string, holds netip.Addr) bool {
	index, known := k.names[name]
	if name == "" {
		index, known = k.holder[holds]
	}
	if !known {
		return true
	}
	up, known := k.carrier[index]
	return up || !known
}

// hearLinks takes what the kernel says of interfaces.
func (l *loop) hearLinks(now time.Duration) {
	if l.links.fd >= 0 && l.ready(pollLinks) && l.links.read() {
		l.setCarrier(now)
	}
}

// setCarrier tells detector and taker which interfaces have carrier.
func (l *loop) setCarrier(now time.Duration) {
	if l.det == nil {
		return
	}
	for i, t := range l.setup.Targets {
		l.taker.Dark(now, i, !l.links.has(t.Interface, t.Own))
	}
	for i, p := range l.setup.Paths {
		l.det.Carrier(now, i, l.links.has(p.Interface, p.Local))
	}
	l.setReach()
}

// setReach tells the detector whether a router can be reached: over a link on
// which one is known or, where none is, over whatever the sessions go, or at least
// over some path.
func (l *loop) setReach() {
	if l.det == nil {
		return
	}
	reach, some := false, l.feed.SessionsUp > 0
	l.routers = false
	for _, t := range l.setup.Targets {
		if t.Class == pulse.Gateway {
			l.routers, reach = true, reach || l.links.has(t.Interface, t.Own)
		}
	}
	for _, p := range l.setup.Paths {
		some = some || l.links.has(p.Interface, p.Local)
	}
	reach = reach || !l.routers && some
	l.det.Reach(reach)
	if reach {
		l.rejoin()
	}
}

// sever: this node is cut off. Where a router is on a link the taker says so
// itself, and asks until one answers again.
func (l *loop) sever() {
	if !l.routers && !l.isolated {
		l.severed, l.isolated = true, true
		l.later = append(l.later, Report{Kind: pulse.GatewayDead.String(), At: time.Now().UnixNano()})
	}
}

// rejoin: it is not any more.
func (l *loop) rejoin() {
	if l.severed {
		l.severed, l.isolated = false, false
		l.later = append(l.later, Report{Kind: pulse.GatewayAlive.String(), At: time.Now().UnixNano()})
	}
}
