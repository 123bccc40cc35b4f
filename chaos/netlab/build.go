package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Build makes the network of t. What is there already is kept and completed,
// so a second Build changes nothing.
func Build(t Topology) error {
	for _, ns := range t.Namespaces {
		if err := ensureNS(t.Full(ns)); err != nil {
			return err
		}
		if err := setSysctls(t.Full(ns), t.Sysctls[ns]); err != nil {
			return err
		}
		if err := withHandle(t.Full(ns), func(h *netlink.Handle) error { return setUp(h, "lo") }); err != nil {
			return err
		}
	}
	for _, b := range t.Bridges {
		if err := withHandle(t.Full(b.NS), func(h *netlink.Handle) error { return ensureBridge(h, b) }); err != nil {
			return err
		}
	}
	for _, l := range t.Links {
		if err := ensureLink(t, l); err != nil {
			return err
		}
	}
	for _, a := range t.Addresses {
		err := withHandle(t.Full(a.NS), func(h *netlink.Handle) error {
			return ensureAddresses(h, a.Interface, []netip.Prefix{a.Prefix})
		})
		if err != nil {
			return err
		}
	}
	for _, r := range t.Routes {
		if err := withHandle(t.Full(r.NS), func(h *netlink.Handle) error { return ensureRoute(h, r) }); err != nil {
			return err
		}
	}
	return nil
}

// Teardown kills every process in the namespaces of the prefix and removes
// them, whoever made them. It goes on after an error and returns all.
func Teardown(prefix string) error {
	names, err := Namespaces(prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, ns := range names {
		errs = append(errs, killIn(ns, killWait), deleteNS(ns))
	}
	return errors.Join(errs...)
}

func withHandle(ns string, f func(*netlink.Handle) error) error {
	n, err := netns.GetFromName(ns)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", ns, err)
	}
	defer func() { _ = n.Close() }()
	h, err := netlink.NewHandleAt(n, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink in %s: %w", ns, err)
	}
	defer h.Close()
	if err := f(h); err != nil {
		return fmt.Errorf("in %s: %w", ns, err)
	}
	return nil
}

func setSysctls(ns string, values map[string]string) error {
	return Do(ns, func() error {
		for key, v := range values {
			path := filepath.Join("/proc/sys", key)
			err := os.WriteFile(path, []byte(v), 0)
			// A key that does not exist needs no value: IPv6 may be absent.
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("sysctl %s=%s in %s: %w", key, v, ns, err)
			}
		}
		return nil
	})
}

func setUp(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func ensureBridge(h *netlink.Handle, b Bridge) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = b.Name
	if _, err := h.LinkByName(b.Name); err != nil {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("make bridge %s: %w", b.Name, err)
		}
	}
	if err := setUp(h, b.Name); err != nil {
		return err
	}
	return ensureAddresses(h, b.Name, b.Addresses)
}

func ensureLink(t Topology, l Link) error {
	far, err := netns.GetFromName(t.Full(l.B.NS))
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", t.Full(l.B.NS), err)
	}
	defer func() { _ = far.Close() }()
	err = withHandle(t.Full(l.A.NS), func(h *netlink.Handle) error {
		if _, err := h.LinkByName(l.A.Interface); err == nil {
			return nil
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = l.A.Interface
		v := &netlink.Veth{LinkAttrs: attrs, PeerName: l.B.Interface, PeerNamespace: netlink.NsFd(far)}
		if err := h.LinkAdd(v); err != nil {
			return fmt.Errorf("make link %s: %w", l.A.Interface, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range []End{l.A, l.B} {
		if err := withHandle(t.Full(e.NS), func(h *netlink.Handle) error { return ensureEnd(h, e) }); err != nil {
			return err
		}
	}
	return nil
}

func ensureEnd(h *netlink.Handle, e End) error {
	if e.Bridge != "" {
		l, err := h.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("interface %s: %w", e.Interface, err)
		}
		b, err := h.LinkByName(e.Bridge)
		if err != nil {
			return fmt.Errorf("bridge %s: %w", e.Bridge, err)
		}
		if err := h.LinkSetMaster(l, b); err != nil {
			return fmt.Errorf("put %s on %s: %w", e.Interface, e.Bridge, err)
		}
	}
	if err := setUp(h, e.Interface); err != nil {
		return err
	}
	return ensureAddresses(h, e.Interface, e.Addresses)
}

func ensureAddresses(h *netlink.Handle, name string, prefixes []netip.Prefix) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	for _, p := range prefixes {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := h.AddrReplace(l, a); err != nil {
			return fmt.Errorf("address %s on %s: %w", p, name, err)
		}
	}
	return nil
}

// HasAddress tells whether an interface of the namespace has an address.
func HasAddress(ns, device string, p netip.Prefix) (has bool, err error) {
	err = withHandle(ns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(device)
		if err != nil {
			return fmt.Errorf("interface %s: %w", device, err)
		}
		all, err := h.AddrList(l, netlink.FAMILY_ALL)
		for _, a := range all {
			has = has || prefixOf(a.IPNet) == p
		}
		return err
	})
	return has, err
}

// RemoveAddress takes an address off an interface of the namespace. That it is
// not there is no error.
func RemoveAddress(ns, device string, p netip.Prefix) error {
	return withHandle(ns, func(h *netlink.Handle) error {
		l, err := h.LinkByName(device)
		if err != nil {
			return fmt.Errorf("interface %s: %w", device, err)
		}
		if err := h.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from %s: %w", p, device, err)
		}
		return nil
	})
}

func ensureRoute(h *netlink.Handle, r Route) error {
	err := h.RouteReplace(&netlink.Route{Dst: ipNet(r.Dst), Gw: r.Via.AsSlice()})
	if err != nil {
		return fmt.Errorf("route %s via %s: %w", r.Dst, r.Via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Devices lists the interfaces of a namespace but its loopback.
func Devices(ns string) ([]string, error) {
	var out []string
	err := withHandle(ns, func(h *netlink.Handle) error {
		ls, err := h.LinkList()
		for _, l := range ls {
			if l.Attrs().Name != "lo" {
				out = append(out, l.Attrs().Name)
			}
		}
		return err
	})
	slices.Sort(out)
	return out, err
}

// Leftovers lists what a lab of that prefix has left on the host: namespaces,
// mounts, processes and router directories. Empty after a good Teardown.
func Leftovers(prefix string) ([]string, error) {
	names, err := Namespaces(prefix)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		out = append(out, "namespace "+n)
		ps, _ := processesIn(n)
		for _, p := range ps {
			out = append(out, fmt.Sprintf("process %d in %s", p.PID, n))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], netnsDir+"/"+prefix+"-") {
			out = append(out, "mount "+f[4])
		}
	}
	for _, root := range []string{frrConfigDir, frrRunDir} {
		dirs, _ := filepath.Glob(filepath.Join(root, prefix+"-*"))
		for _, d := range dirs {
			out = append(out, "directory "+d)
		}
	}
	return out, nil
}

// settleLimit bounds waiting for one thing of the network to settle.
const settleLimit = 30 * time.Second
