package hcs

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/parse"
	"dyad/eventlog"
	"dyad/projections"
)

// Interface is what the log says changes came through.
const Interface = "hcs"

// Commands is the hcs command. Its flags are PowerShell's; dyad's own go before
// the cmdlet.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{{
		Use:   "hcs CMDLET [-Parameter VALUE]...",
		Short: "The appliance's four cmdlets, verbatim",
		Long: `hcs takes the cmdlets of the edge appliance as they are typed there:

  Get-HcsExternalVirtualSwitch
  Set-HcsBGPPeer -PeerAddress ADDRESS -PeerAsn ASN -SelfAsn ASN -SwitchName NAME [-HoldTimeInSeconds SECONDS]
  Get-HcsBGPPeers -SwitchName NAME
  Remove-HcsBGPPeer -PeerAddress ADDRESS -SwitchName NAME

Names may be in any case; a parameter may be shortened as long as it is clear
which one is meant; -Name:VALUE works too. What changes stands in the log like
any other change. dyad's own flags go before the cmdlet.`,
		Example: `  dyad hcs Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1 -HoldTimeInSeconds 15
  dyad hcs Get-HcsBGPPeers -SwitchName vSwitch1
  dyad hcs --reason "rack 4 moves" Remove-HcsBGPPeer -PeerAddress 10.126.77.125 -SwitchName vSwitch1`,
		DisableFlagParsing: true,
		ValidArgsFunction:  complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			rest, help, err := globals(cmd, env, args)
			if err != nil {
				return err
			}
			if help {
				return cmd.Help()
			}
			call, err := Bind(rest)
			if err != nil {
				return err
			}
			return run(cmd.Context(), env, call)
		},
	}}
}

// globals reads dyad's own flags, which stand before the cmdlet.
func globals(cmd *cobra.Command, env *cli.Env, args []string) (rest []string, help bool, err error) {
	f := pflag.NewFlagSet("hcs", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.SetInterspersed(false)
	f.AddFlagSet(cmd.Root().PersistentFlags())
	f.BoolVarP(&help, "help", "h", false, "")
	if err := f.Parse(args); err != nil {
		return nil, false, cli.Usage(cmd.CommandPath(), err.Error(), cmd.CommandPath()+" --help")
	}
	return f.Args(), help, env.CheckGlobals()
}

func complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return Names(), cobra.ShellCompDirectiveNoFileComp
	}
	return Params(args[0]), cobra.ShellCompDirectiveNoFileComp
}

func run(ctx context.Context, env *cli.Env, call Call) error {
	switch call.Cmdlet {
	case GetSwitch:
		list, err := cli.Ask(ctx, env, env.Client().Switches)
		if err != nil {
			return err
		}
		_, err = io.WriteString(env.Out, Switches(list))
		return err
	case GetPeers:
		return getPeers(ctx, env, call.Values[SwitchName])
	}
	command, err := Command(call)
	if err != nil {
		return err
	}
	if command, err = withSwitch(ctx, env, command); err != nil {
		return err
	}
	return env.Change(ctx, command, cli.ChangeOptions{Interface: Interface, Quiet: true})
}

// Command is what a cmdlet that changes something asks for.
func Command(call Call) (projections.Command, error) {
	addr, err := parse.Address("-"+PeerAddress, call.Values[PeerAddress])
	if err != nil {
		return nil, err
	}
	if call.Cmdlet == RemovePeer {
		return projections.RemovePeer{Switch: call.Values[SwitchName], Address: addr}, nil
	}
	c := projections.SetPeer{Switch: call.Values[SwitchName], Address: addr}
	if c.PeerASN, err = parse.ASN("-"+PeerAsn, call.Values[PeerAsn]); err != nil {
		return nil, err
	}
	if c.SelfASN, err = parse.ASN("-"+SelfAsn, call.Values[SelfAsn]); err != nil {
		return nil, err
	}
	if text, ok := call.Values[HoldTime]; ok {
		hold, err := parse.HoldTime("-"+HoldTime, text)
		if err != nil {
			return nil, err
		}
		c.HoldTime = &hold
	}
	return c, nil
}

func getPeers(ctx context.Context, env *cli.Env, name string) error {
	sw, err := findSwitch(ctx, env, name)
	if err != nil {
		return err
	}
	all, err := cli.Ask(ctx, env, env.Client().Peers)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(p eventlog.Peer) bool { return p.Switch != sw.Name })
	_, err = io.WriteString(env.Out, Peers(all))
	return err
}

// withSwitch spells the switch as it was declared: on the appliance names are
// the same in any case.
func withSwitch(ctx context.Context, env *cli.Env, c projections.Command) (projections.Command, error) {
	switch c := c.(type) {
	case projections.SetPeer:
		if sw, err := findSwitch(ctx, env, c.Switch); err == nil {
			c.Switch = sw.Name
		} else if cli.ExitCode(err) != cli.ExitRefused {
			return nil, err
		}
		return c, nil // the rules refuse an unknown switch, and the log keeps that
	case projections.RemovePeer:
		if sw, err := findSwitch(ctx, env, c.Switch); err == nil {
			c.Switch = sw.Name
		} else if cli.ExitCode(err) != cli.ExitRefused {
			return nil, err
		}
		return c, nil
	}
	return c, nil
}

func findSwitch(ctx context.Context, env *cli.Env, name string) (api.SwitchView, error) {
	list, err := cli.Ask(ctx, env, env.Client().Switches)
	if err != nil {
		return api.SwitchView{}, err
	}
	return cli.FindSwitch(list, name)
}
