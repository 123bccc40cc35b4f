package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HardwareAddr is the MAC of an interface of the namespace.
func HardwareAddr(ns, device string) (mac net.HardwareAddr, err error) {
	err = withHandle(ns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(device)
		if err != nil {
			return fmt.Errorf("interface %s: %w", device, err)
		}
		mac = l.Attrs().HardwareAddr
		return nil
	})
	return mac, err
}

// Pin makes the namespace's neighbor entry for an address permanent: no ARP or ND
// changes it any more, as on a router whose operator wrote it down, and none is
// asked for.
func Pin(ns, device string, a netip.Addr, mac net.HardwareAddr) error {
	return setNeighbor(ns, device, a, mac, unix.NUD_PERMANENT)
}

// Unpin ends a [Pin]: the entry stands, and the next ARP or ND may change it.
func Unpin(ns, device string, a netip.Addr, mac net.HardwareAddr) error {
	return setNeighbor(ns, device, a, mac, unix.NUD_REACHABLE)
}

func setNeighbor(ns, device string, a netip.Addr, mac net.HardwareAddr, state int) error {
	return withHandle(ns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(device)
		if err != nil {
			return fmt.Errorf("interface %s: %w", device, err)
		}
		n := netlink.Neigh{LinkIndex: l.Attrs().Index, State: state, IP: a.AsSlice(), HardwareAddr: mac}
		if err := h.NeighSet(&n); err != nil {
			return fmt.Errorf("neighbor entry of %s on %s: %w", a, device, err)
		}
		return nil
	})
}
