package address

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxErrors bounds how many failed addresses one error tells of.
const maxErrors = 5

// bootFile changes its content at every boot of the kernel.
const bootFile = "/proc/sys/kernel/random/boot_id"

// Options of a [Manager].
type Options struct {
	// Interface holds the addresses; default lo.
	Interface string
	// StateFile is the owner file. Its directory must exist.
	StateFile string
	// Log defaults to slog.Default.
	Log *slog.Logger
}

// Manager puts service addresses on one interface. Its methods may be called by
// several goroutines. It works in the network namespace of the thread that
// called New.
type Manager struct {
	opts Options
	boot string

	mu      sync.Mutex
	handle  *netlink.Handle
	owned   map[netip.Addr]bool // what the owner file claims
	index   int                 // of the interface the claims are for
	foreign []netip.Addr
}

// New reads the owner file and opens netlink. It changes no address on the
// interface, but takes back what an earlier run put on another one.
func New(opts Options) (*Manager, error) {
	if opts.Interface == "" {
		opts.Interface = "lo"
	}
	if opts.StateFile == "" {
		return nil, errors.New("no file to record which addresses are ours: set StateFile")
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	boot, err := os.ReadFile(bootFile)
	if err != nil {
		return nil, fmt.Errorf("tell this boot from others: %w", err)
	}
	o, err := readOwner(opts.StateFile)
	if err != nil {
		return nil, err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	m := &Manager{opts: opts, boot: strings.TrimSpace(string(boot)), handle: h, owned: map[netip.Addr]bool{}}
	if o.Boot != m.boot {
		return m, nil // a reboot took all of ours
	}
	if o.Interface != opts.Interface {
		err = m.leave(o)
	} else {
		m.index = o.Index
		for _, a := range o.Addresses {
			m.owned[a] = true
		}
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return m, nil
}

// leave takes back what an earlier run put on another interface.
func (m *Manager) leave(o owner) error {
	link, err := m.handle.LinkByName(o.Interface)
	if err != nil || link.Attrs().Index != o.Index {
		return nil // the interface is gone, and the addresses with it
	}
	for _, a := range o.Addresses {
		if err := m.del(link, a); err != nil {
			return fmt.Errorf("take %s back from %s, where an earlier run put it: %w", a, o.Interface, err)
		}
	}
	return m.save()
}

// Set makes the interface hold exactly the wanted addresses, beside those that
// are somebody else's. It returns how many were added and removed. One address
// that fails does not hinder the others; the error then tells of it, and the
// caller calls again.
func (m *Manager) Set(ctx context.Context, want []netip.Addr) (added, removed int, err error) {
	set, err := checkWanted(want)
	if err != nil {
		return 0, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.handle == nil {
		return 0, 0, errors.New("the address manager is closed")
	}
	link, err := m.link()
	if err != nil {
		return 0, 0, err
	}
	here, elsewhere, err := m.present(link.Attrs().Index)
	if err != nil {
		return 0, 0, err
	}
	p := planFor(here, elsewhere, m.owned, set)
	m.tellForeign(p.foreign)
	if len(p.add)+len(p.remove)+len(p.forget) == 0 {
		return 0, 0, nil
	}
	// Claim first: a crash after this point leaves no address without owner.
	for _, a := range p.add {
		m.owned[a] = true
	}
	for _, a := range p.forget {
		delete(m.owned, a)
	}
	if len(p.add) > 0 {
		if err := m.save(); err != nil {
			for _, a := range p.add {
				delete(m.owned, a)
			}
			return 0, 0, err
		}
	}
	added, removed, err = m.carryOut(ctx, link, p)
	if removed > 0 || len(p.forget) > 0 || err != nil {
		err = errors.Join(err, m.save())
	}
	m.opts.Log.Debug("service addresses set", "event", "address.set", "reason", "wish",
		"interface", m.opts.Interface, "added", added, "removed", removed)
	return added, removed, err
}

// carryOut adds first: whoever fails over wants the new addresses soon.
func (m *Manager) carryOut(ctx context.Context, link netlink.Link, p plan) (added, removed int, err error) {
	var errs []error
	for i, a := range p.add {
		if err := ctx.Err(); err != nil {
			for _, untried := range p.add[i:] {
				delete(m.owned, untried)
			}
			return added, removed, errors.Join(append(errs, err)...)
		}
		switch err := m.add(link, a); {
		case err == nil:
			added++
		case errors.Is(err, unix.EEXIST): // somebody was faster
			delete(m.owned, a)
			m.foreign = append(m.foreign, a)
		default:
			delete(m.owned, a)
			errs = append(errs, m.explain(a, err))
		}
	}
	for _, a := range p.remove {
		if err := ctx.Err(); err != nil {
			return added, removed, errors.Join(append(errs, err)...)
		}
		if err := m.del(link, a); err != nil {
			errs = append(errs, fmt.Errorf("remove %s from %s: %w", a, m.opts.Interface, err))
			continue
		}
		delete(m.owned, a)
		removed++
	}
	if n := len(errs); n > maxErrors {
		errs = append(errs[:maxErrors], fmt.Errorf("and %d more", n-maxErrors))
	}
	return added, removed, errors.Join(errs...)
}

func (m *Manager) explain(a netip.Addr, err error) error {
	fix := ""
	switch {
	case errors.Is(err, unix.EPERM):
		fix = "\n  try: run as root, or with CAP_NET_ADMIN"
	case !a.Is4() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)):
		fix = fmt.Sprintf("\n  try: sysctl net.ipv6.conf.%s.disable_ipv6=0", m.opts.Interface)
	}
	return fmt.Errorf("add %s to %s: %w%s", a, m.opts.Interface, err, fix)
}

// Reset removes every address of ours.
func (m *Manager) Reset(ctx context.Context) error {
	_, _, err := m.Set(ctx, nil)
	return err
}

// Foreign returns the wanted addresses of the last Set that were on the host
// before and are not ours, sorted. They work, and will never be removed.
func (m *Manager) Foreign() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]netip.Addr(nil), m.foreign...)
}

// Owned returns the addresses that are ours, sorted.
func (m *Manager) Owned() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sortedKeys(m.owned)
}

// Close releases netlink. The addresses stay.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.handle != nil {
		m.handle.Close()
		m.handle = nil
	}
}

// link finds the interface. If it was made anew, nothing on it is ours.
func (m *Manager) link() (netlink.Link, error) {
	link, err := m.handle.LinkByName(m.opts.Interface)
	if err != nil {
		return nil, fmt.Errorf("find interface %s for service addresses: %w\n  try: ip link", m.opts.Interface, err)
	}
	if i := link.Attrs().Index; i != m.index {
		m.index = i
		clear(m.owned)
	}
	return link, nil
}

// present lists the addresses on the interface, and those on all others.
func (m *Manager) present(index int) (here, elsewhere map[netip.Addr]bool, err error) {
	list, err := m.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, nil, fmt.Errorf("list the addresses of this host: %w", err)
	}
	here, elsewhere = make(map[netip.Addr]bool, len(list)), map[netip.Addr]bool{}
	for _, l := range list {
		a, ok := netip.AddrFromSlice(l.IP)
		if !ok {
			continue
		}
		if l.LinkIndex == index {
			here[a.Unmap()] = true
		} else {
			elsewhere[a.Unmap()] = true
		}
	}
	return here, elsewhere, nil
}

// tellForeign keeps the list and logs what is new on it.
func (m *Manager) tellForeign(now []netip.Addr) {
	was := map[netip.Addr]bool{}
	for _, a := range m.foreign {
		was[a] = true
	}
	for _, a := range now {
		if !was[a] {
			m.opts.Log.Warn("a service address was on this host before and is left alone", "event", "address.foreign",
				"reason", "not put there by dyad", "address", a, "interface", m.opts.Interface)
		}
	}
	m.foreign = now
}

func (m *Manager) save() error {
	return owner{Boot: m.boot, Interface: m.opts.Interface, Index: m.index, Addresses: sortedKeys(m.owned)}.write(m.opts.StateFile)
}

func netlinkAddr(a netip.Addr) *netlink.Addr {
	n := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if !a.Is4() {
		n.Flags = unix.IFA_F_NODAD
		n.ValidLft = math.MaxUint32 // for ever; PreferedLft 0: deprecated
	}
	return n
}

func (m *Manager) add(link netlink.Link, a netip.Addr) error {
	return m.handle.AddrAdd(link, netlinkAddr(a))
}

// del treats an address that is gone as removed.
func (m *Manager) del(link netlink.Link, a netip.Addr) error {
	err := m.handle.AddrDel(link, netlinkAddr(a))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}
