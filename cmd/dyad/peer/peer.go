// Package peer holds the commands on BGP peers.
package peer

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/parse"
	"dyad/eventlog"
	"dyad/projections"
)

type flags struct{ sw, peerASN, selfASN, hold string }

// Commands is the noun peer.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "peer",
		Short: "The routers that both nodes speak BGP with",
		Long: `A peer is a router. Every node holds a session with it, on the switch that the
router is reached through. A switch without a peer announces nothing by BGP.`,
		Example: "  dyad peer list",
	}, add(env), set(env), remove(env), list(env), show(env))}
}

func (f *flags) define(env *cli.Env, cmd *cobra.Command, asns bool) {
	cmd.Flags().StringVar(&f.sw, "switch", "", "the `NAME` of the switch; not needed if one switch is enabled for compute")
	env.CompleteFlag(cmd, "switch", cli.SwitchNames)
	if !asns {
		return
	}
	cmd.Flags().StringVar(&f.peerASN, "peer-asn", "", "the router's `ASN`: "+parse.ASNRanges)
	cmd.Flags().StringVar(&f.selfASN, "self-asn", "", "the cluster's own `ASN`: "+parse.ASNRanges)
	cmd.Flags().StringVar(&f.hold, "hold-time", "", "proposed hold time in `SECONDS`: 0 or 3–65535 (default 90)")
}

func (f *flags) where(ctx context.Context, env *cli.Env) (string, error) {
	if f.sw != "" {
		return f.sw, nil
	}
	list, err := cli.Ask(ctx, env, env.Client().Switches)
	if err != nil {
		return "", err
	}
	return cli.ComputeSwitch(list)
}

// fill puts what was typed into c.
func (f *flags) fill(c *projections.SetPeer) (err error) {
	if f.peerASN != "" {
		if c.PeerASN, err = parse.ASN("--peer-asn", f.peerASN); err != nil {
			return err
		}
	}
	if f.selfASN != "" {
		if c.SelfASN, err = parse.ASN("--self-asn", f.selfASN); err != nil {
			return err
		}
	}
	if f.hold != "" {
		hold, err := parse.HoldTime("--hold-time", f.hold)
		if err != nil {
			return err
		}
		c.HoldTime = &hold
	}
	return nil
}

func add(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "add ADDRESS",
		Short: "Add a router",
		Long: `add makes every node open a BGP session with the router at ADDRESS. The address and
the two ASNs are all that is needed; the hold time is 90 seconds unless given.`,
		Example: `  dyad peer add 10.126.77.125 --switch vSwitch1 --peer-asn 64512 --self-asn 64513
  dyad peer add 2001:db8::1 --peer-asn 64512 --self-asn 64513 --hold-time 15`,
		Args: cli.Args(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := parse.Address("peer address", args[0])
			if err != nil {
				return err
			}
			for _, asn := range []struct{ flag, value string }{{"--peer-asn", f.peerASN}, {"--self-asn", f.selfASN}} {
				if asn.value == "" {
					return cli.Usage(asn.flag, "it is missing: an ASN is "+parse.ASNRanges,
						fmt.Sprintf("dyad peer add %s --peer-asn 64512 --self-asn 64513", addr))
				}
			}
			c := projections.SetPeer{Address: addr, New: true}
			if err := f.fill(&c); err != nil {
				return err
			}
			if c.Switch, err = f.where(cmd.Context(), env); err != nil {
				return err
			}
			return env.Change(cmd.Context(), c, cli.ChangeOptions{})
		},
	}
	f.define(env, cmd, true)
	return cmd
}

func set(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "set ADDRESS",
		Short: "Change a router, or add it",
		Long: `set changes what is given and keeps the rest. The nodes' sessions with the router
start again if an ASN or the hold time changes.`,
		Example: "  dyad peer set 10.126.77.125 --hold-time 15",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.PeerNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := parse.Address("peer address", args[0])
			if err != nil {
				return err
			}
			c := projections.SetPeer{Address: addr, Switch: f.sw}
			peers, err := cli.Ask(cmd.Context(), env, env.Client().Peers)
			if err != nil {
				return err
			}
			found := false
			for _, p := range peers {
				if p.Address == addr && (f.sw == "" || f.sw == p.Switch) {
					hold := int64(p.HoldTime)
					c.Switch, c.PeerASN, c.SelfASN, c.HoldTime, found = p.Switch, int64(p.PeerASN), int64(p.SelfASN), &hold, true
				}
			}
			if !found && (f.peerASN == "" || f.selfASN == "") {
				return cli.Usage("peer "+addr.String(), "there is no such peer, and a new one needs both ASNs",
					fmt.Sprintf("dyad peer add %s --peer-asn 64512 --self-asn 64513, or dyad peer list", addr))
			}
			if err := f.fill(&c); err != nil {
				return err
			}
			if c.Switch == "" {
				if c.Switch, err = f.where(cmd.Context(), env); err != nil {
					return err
				}
			}
			return env.Change(cmd.Context(), c, cli.ChangeOptions{})
		},
	}
	f.define(env, cmd, true)
	return cmd
}

func remove(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:     "remove ADDRESS",
		Short:   "Remove a router",
		Long:    `remove closes every node's session with the router. The router forgets what it learned from them.`,
		Example: "  dyad peer remove 10.126.77.125 --reason \"replaced by tor-2\"",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.PeerNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.find(cmd.Context(), env, args[0])
			if err != nil {
				return err
			}
			return env.Change(cmd.Context(), projections.RemovePeer{Switch: p.Switch, Address: p.Address}, cli.ChangeOptions{})
		},
	}
	f.define(env, cmd, false)
	return cmd
}

// find finds the peer with an address, on the switch that was given.
func (f *flags) find(ctx context.Context, env *cli.Env, text string) (eventlog.Peer, error) {
	addr, err := parse.Address("peer address", text)
	if err != nil {
		return eventlog.Peer{}, err
	}
	peers, err := cli.Ask(ctx, env, env.Client().Peers)
	if err != nil {
		return eventlog.Peer{}, err
	}
	return cli.Find("peer", addr.String(), peers, func(p eventlog.Peer) bool { return isPeer(p, addr, f.sw) })
}

func isPeer(p eventlog.Peer, addr netip.Addr, sw string) bool {
	return p.Address == addr && (sw == "" || p.Switch == sw)
}
