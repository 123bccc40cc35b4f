package netlab

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// faultTable is the nftables table (family netdev) that holds the silence.
const faultTable = "dyad_fault"

// cutTable is the table that holds cut links; a drill's silence ends without
// them.
const cutTable = "dyad_cut"

// Silence drops every frame in and out of every interface of the namespace,
// ARP and neighbour discovery too, in one transaction: between two frames the
// host falls silent, while no link goes down. A second Silence changes nothing.
func Silence(ns string) error {
	devices, err := Devices(ns)
	if err != nil {
		return err
	}
	return drop(ns, faultTable, devices)
}

// Cut drops every frame in and out of the given interfaces of the namespace, like
// [Silence], until [Mend]. Further interfaces add to those that are cut already.
func Cut(ns string, devices ...string) error { return drop(ns, cutTable, devices) }

// drop makes the chains first, which let everything pass, and then gives all of
// them the rule that drops.
//
// Invariant: the frames of all devices are dropped from one instant on. The kernel
// switches rules over at once, but hooks chains in one after the other, with
// milliseconds between; a host that dies by and by is no dead host.
func drop(ns, table string, devices []string) error {
	return withRules(ns, func(c *nftables.Conn) error {
		t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: table})
		pass := nftables.ChainPolicyAccept
		var chains []*nftables.Chain
		for _, d := range devices {
			for name, hook := range map[string]*nftables.ChainHook{
				"in_" + d:  nftables.ChainHookIngress,
				"out_" + d: nftables.ChainHookEgress,
			} {
				chains = append(chains, c.AddChain(&nftables.Chain{
					Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook,
					Priority: nftables.ChainPriorityFilter, Policy: &pass, Device: d,
				}))
			}
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("prepare to silence %s: %w", ns, err)
		}
		for _, chain := range chains {
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("silence %s: %w", ns, err)
		}
		return nil
	})
}

// Unsilence ends a [Silence]. That there was none is no error.
func Unsilence(ns string) error { return pass(ns, faultTable) }

// Mend ends every [Cut] in the namespace. That there was none is no error.
func Mend(ns string) error { return pass(ns, cutTable) }

func pass(ns, table string) error {
	return withRules(ns, func(c *nftables.Conn) error {
		c.DelTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: table})
		if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("end the silence of %s: %w", ns, err)
		}
		return nil
	})
}

// Isolate keeps the given ports of a bridge in the namespace from reaching each
// other, as the port isolation of a switch does; each still reaches the bridge
// itself. Off ends it.
func Isolate(ns string, on bool, ports ...string) error {
	return withHandle(ns, func(h *netlink.Handle) error {
		for _, p := range ports {
			l, err := h.LinkByName(p)
			if err == nil {
				err = h.LinkSetIsolated(l, on)
			}
			if err != nil {
				return fmt.Errorf("isolate port %s: %w", p, err)
			}
		}
		return nil
	})
}

// Silent tells whether the namespace is silenced.
func Silent(ns string) (bool, error) {
	found := false
	err := withRules(ns, func(c *nftables.Conn) error {
		ts, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
		for _, t := range ts {
			found = found || t.Name == faultTable
		}
		return err
	})
	return found, err
}

// withRules opens nftables in the named namespace.
func withRules(ns string, f func(*nftables.Conn) error) error {
	h, err := netns.GetFromName(ns)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", ns, err)
	}
	defer func() { _ = h.Close() }()
	c, err := nftables.New(nftables.WithNetNSFd(int(h)))
	if err != nil {
		return fmt.Errorf("nftables in %s: %w", ns, err)
	}
	return f(c)
}
