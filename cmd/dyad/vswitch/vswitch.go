// Package vswitch holds the commands on switches.
package vswitch

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/words"
	"dyad/eventlog"
	"dyad/projections"
)

// Commands is the noun switch.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "switch",
		Short: "The nodes' attachments to the network",
		Long: `A switch is a named attachment: one interface or more on each node, and what they may
be used for. The agents declare their ports from their configuration. Peers and
services need a switch that is enabled for compute.`,
		Example: "  dyad switch list",
	}, list(env), show(env), set(env), remove(env))}
}

func list(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "The switches, and what stands on them",
		Long:    `list shows every switch. PROTOCOL is bgp with a peer, and layer2 without one.`,
		Example: "  dyad switch list -o wide",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				switches, err := env.Client().Switches(ctx)
				if err != nil {
					return err
				}
				return table.Print(env, switches)
			})
		},
	}
}

func peers(s api.SwitchView) string { return words.Addresses(s.Peers) }

var table = cli.List[api.SwitchView]{
	Name:  func(s api.SwitchView) string { return "switch/" + s.Name },
	Empty: "no switches; declare them under switches: in the agent's configuration",
	Columns: []cli.Column[api.SwitchView]{
		{Head: "NAME", Value: func(s api.SwitchView) string { return s.Name }},
		{Head: "ROLES", Value: func(s api.SwitchView) string { return words.Roles(s.Switch) }},
		{Head: "PROTOCOL", Value: func(s api.SwitchView) string { return s.Protocol }},
		{Head: "PORTS", Value: func(s api.SwitchView) string { return words.Ports(s.Switch) }},
		{Head: "PEERS", Value: peers},
		{Head: "POOLS", Value: func(s api.SwitchView) string { return strings.Join(s.Pools, ",") }},
		{Head: "SOURCE", Wide: true, Value: func(s api.SwitchView) string { return s.Source }},
		{Head: "ID", Wide: true, Value: func(s api.SwitchView) string { return s.ID }},
	},
}

func find(ctx context.Context, env *cli.Env, name string) (api.SwitchView, error) {
	switches, err := cli.Ask(ctx, env, env.Client().Switches)
	if err != nil {
		return api.SwitchView{}, err
	}
	return cli.FindSwitch(switches, name)
}

func show(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "One switch",
		Long:    `show prints one switch with its ports and what stands on it.`,
		Example: "  dyad switch show vSwitch1",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.SwitchNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				s, err := find(ctx, env, args[0])
				if err != nil {
					return err
				}
				fields := []cli.Field{
					{Name: "Name", Value: s.Name},
					{Name: "Roles", Value: words.Roles(s.Switch)},
					{Name: "Protocol", Value: s.Protocol},
					{Name: "Peers", Value: peers(s)},
					{Name: "Pools", Value: strings.Join(s.Pools, ",")},
					{Name: "Source", Value: s.Source},
					{Name: "ID", Value: s.ID},
				}
				for _, p := range s.Ports {
					fields = append(fields, cli.Field{Name: p.Node, Value: port(p)})
				}
				return env.Show(s, "switch/"+s.Name, fields)
			})
		},
	}
}

func port(p eventlog.Port) string {
	text := p.Interface
	if p.Alias != "" {
		text += " (" + p.Alias + ")"
	}
	for _, a := range p.Addresses {
		text += " " + a.String()
	}
	return text
}

func set(env *cli.Env) *cobra.Command {
	var compute, storage, management bool
	cmd := &cobra.Command{
		Use:     "set NAME",
		Short:   "Change what a switch may be used for",
		Long:    `set changes the roles that are given and keeps the others, and the ports.`,
		Example: "  dyad switch set vSwitch1 --compute\n  dyad switch set vSwitch2 --storage --compute=false",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.SwitchNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := find(cmd.Context(), env, args[0])
			if err != nil {
				return err
			}
			now, given := s.Switch, false
			for _, role := range []struct {
				flag  string
				value bool
				field *bool
			}{{"compute", compute, &now.Compute}, {"storage", storage, &now.Storage}, {"management", management, &now.Management}} {
				if cmd.Flags().Changed(role.flag) {
					*role.field, given = role.value, true
				}
			}
			if !given {
				return cli.Usage("dyad switch set "+s.Name, "nothing to change is given", "--compute, --storage or --management, each also with =false")
			}
			return env.Change(cmd.Context(), projections.DeclareSwitch{Switch: now}, cli.ChangeOptions{})
		},
	}
	cmd.Flags().BoolVar(&compute, "compute", false, "peers and services may use it")
	cmd.Flags().BoolVar(&storage, "storage", false, "storage may use it")
	cmd.Flags().BoolVar(&management, "management", false, "management may use it")
	return cmd
}

func remove(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a switch without peers and pools",
		Long: `remove removes a switch. An agent whose configuration still has it declares it again
when it starts.`,
		Example: "  dyad switch remove vSwitch2",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.SwitchNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Change(cmd.Context(), projections.RemoveSwitch{Name: args[0]}, cli.ChangeOptions{})
		},
	}
}
