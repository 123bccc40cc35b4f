package gobgprouter

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protoBGP marks our routes in the kernel's table (RTPROT_BGP).
const protoBGP = 186

// fib is what we put into the kernel's table.
type fib struct {
	h    *netlink.Handle
	have map[netip.Prefix][]netip.Addr
}

func newFIB() (*fib, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &fib{h: h, have: map[netip.Prefix][]netip.Addr{}}, nil
}

func (f *fib) close() { f.h.Close() }

// set makes want the next hops of the prefix; none removes it. The kernel
// replaces a route in one step: no packet finds the table without it.
func (f *fib) set(p netip.Prefix, want []netip.Addr) error {
	if slices.Equal(f.have[p], want) {
		return nil
	}
	r := &netlink.Route{Dst: ipNet(p), Protocol: protoBGP, Family: unix.AF_INET}
	if p.Addr().Is6() {
		r.Family = unix.AF_INET6
	}
	if len(want) == 0 {
		if err := f.h.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route %s: %w", p, err)
		}
		delete(f.have, p)
		return nil
	}
	if len(want) == 1 {
		via(want[0], r.Family, &r.Gw, &r.Via)
	} else {
		for _, a := range want {
			n := &netlink.NexthopInfo{}
			via(a, r.Family, &n.Gw, &n.Via)
			r.MultiPath = append(r.MultiPath, n)
		}
	}
	if err := f.h.RouteReplace(r); err != nil {
		return fmt.Errorf("set route %s via %v: %w", p, want, err)
	}
	f.have[p] = want
	return nil
}

// via sets the next hop: directly, or as RTA_VIA where it is of the other
// address family (RFC 8950).
func via(a netip.Addr, family int, gw *net.IP, other *netlink.Destination) {
	switch {
	case a.Is4() == (family == unix.AF_INET):
		*gw = a.AsSlice()
	case a.Is4():
		*other = &netlink.Via{AddrFamily: unix.AF_INET, Addr: a.AsSlice()}
	default:
		*other = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: a.AsSlice()}
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
