package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kinds of routers.
const (
	KindFRR   = "frr"
	KindBIRD  = "bird"
	KindGoBGP = "gobgp"
)

// RouterPeer is a node as the router knows it.
type RouterPeer struct {
	Address netip.Addr `json:"address"`
	ASN     uint32     `json:"asn"`
}

// RouterConfig is what any router of the lab needs to know.
type RouterConfig struct {
	// NS is the full name of the namespace it runs in.
	NS string `json:"ns"`
	// Dir is for its configuration, sockets and logs.
	Dir      string       `json:"dir"`
	ASN      uint32       `json:"asn"`
	RouterID netip.Addr   `json:"router_id"`
	HoldTime uint16       `json:"hold_time_s"` // seconds, proposed
	Peers    []RouterPeer `json:"peers"`
	// BFD guards every session, if set; FRR and BIRD only.
	BFD *BFD `json:"bfd,omitempty"`
	// Announce are the prefixes it originates itself, with MED; FRR and BIRD
	// only. A node that announces without dyad is a router like any other.
	Announce []netip.Prefix `json:"announce,omitempty"`
	MED      uint32         `json:"med,omitempty"`
	// Binary is the dyad binary, which holds the embedded router.
	Binary string `json:"binary"`
}

// RouterControl starts, stops and asks one router. It keeps nothing in memory:
// another process may stop what this one started.
type RouterControl interface {
	// Kind is frr, bird or gobgp.
	Kind() string
	// Start returns when the router accepts sessions.
	Start(ctx context.Context) error
	// Stop ends the router and removes what it left: routes, next-hop
	// objects, directories. That it does not run is no error.
	Stop(ctx context.Context) error
	// Sessions is the state of the session with each peer, as the router
	// calls it; "Established" means the same with all of them.
	Sessions(ctx context.Context) (map[netip.Addr]string, error)
	// Show is the router's own view of its table, for people.
	Show(ctx context.Context) (string, error)
	// ShowCommand is what an operator would type to see the same.
	ShowCommand() string
}

// NewRouter returns the control of a router of that kind.
func NewRouter(kind string, c RouterConfig) (RouterControl, error) {
	switch kind {
	case KindFRR:
		return &frr{c}, nil
	case KindBIRD:
		return &bird{c}, nil
	case KindGoBGP:
		if c.BFD != nil || len(c.Announce) > 0 {
			return nil, fmt.Errorf("the embedded router has no BFD and announces nothing; use %s or %s", KindFRR, KindBIRD)
		}
		return &embedded{c}, nil
	}
	return nil, fmt.Errorf("no router is called %q; use %s, %s or %s", kind, KindFRR, KindBIRD, KindGoBGP)
}

// WaitEstablished waits until the router has a session with each of the peers.
func WaitEstablished(ctx context.Context, r RouterControl, peers ...netip.Addr) error {
	var missing []string
	err := pollContext(ctx, func() bool {
		missing = missing[:0]
		have, err := r.Sessions(ctx)
		if err != nil {
			missing = append(missing, err.Error())
			return false
		}
		for _, p := range peers {
			if have[p] != "Established" {
				missing = append(missing, fmt.Sprintf("%s is %q", p, have[p]))
			}
		}
		return len(missing) == 0
	})
	if err != nil {
		return fmt.Errorf("sessions of the %s router: %s: %w", r.Kind(), strings.Join(missing, ", "), err)
	}
	return nil
}

// pollContext looks at a level until it is reached or ctx ends.
func pollContext(ctx context.Context, level func() bool) error {
	tick := time.NewTicker(5 * pollEvery)
	defer tick.Stop()
	for !level() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Protocol numbers of routes that BGP made (rtnetlink(7)).
const (
	protoBIRD = 12
	protoBGP  = 186
)

// Table is what the router forwards by: the prefixes that BGP put into the
// kernel's table, each with its next hops, sorted. This is the truth that
// packets see, whichever the router is.
func Table(ns string) (map[netip.Prefix][]netip.Addr, error) {
	out := map[netip.Prefix][]netip.Addr{}
	err := withHandle(ns, func(h *netlink.Handle) error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rs, err := h.RouteList(nil, family)
			if err != nil {
				return fmt.Errorf("list routes: %w", err)
			}
			for _, r := range rs {
				if (r.Protocol == protoBGP || r.Protocol == protoBIRD) && r.Dst != nil {
					p := prefixOf(r.Dst)
					out[p] = append(out[p], nextHops(r)...)
				}
			}
		}
		return nil
	})
	for p := range out {
		slices.SortFunc(out[p], netip.Addr.Compare)
	}
	return out, err
}

func nextHops(r netlink.Route) []netip.Addr {
	var out []netip.Addr
	add := func(ip net.IP, via netlink.Destination) {
		if v, ok := via.(*netlink.Via); ok && ip == nil {
			ip = v.Addr
		}
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap())
		}
	}
	add(r.Gw, r.Via)
	for _, m := range r.MultiPath {
		add(m.Gw, m.Via)
	}
	return out
}

func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

// flushRoutes removes the routes and next-hop objects that a killed router left.
func flushRoutes(ns string) error {
	return withHandle(ns, func(h *netlink.Handle) error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rs, err := h.RouteList(nil, family)
			if err != nil {
				return fmt.Errorf("list routes: %w", err)
			}
			for _, r := range rs {
				if r.Protocol == protoBGP || r.Protocol == protoBIRD {
					// Removing a next-hop object may remove it first.
					_ = h.RouteDel(&r)
				}
			}
		}
		return nil
	})
}
