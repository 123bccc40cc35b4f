// Package pool holds the commands on address pools.
package pool

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/parse"
	"dyad/eventlog"
	"dyad/projections"
)

// Commands is the noun pool.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "pool",
		Short: "The addresses that services get theirs from",
		Long: `A pool is a set of ranges: 192.0.2.0/24, 192.0.2.10-192.0.2.20 or one address. A
service takes the lowest free address of a pool.`,
		Example: "  dyad pool list",
	}, add(env), set(env), remove(env), list(env), show(env))}
}

type flags struct {
	sw     string
	manual bool
}

func (f *flags) define(env *cli.Env, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.sw, "switch", "", "announce these addresses on the switch `NAME` only")
	cmd.Flags().BoolVar(&f.manual, "manual", false, "only for services that name the pool")
	env.CompleteFlag(cmd, "switch", cli.SwitchNames)
}

func add(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:     "add NAME RANGE...",
		Short:   "Add a pool",
		Long:    `add makes a pool. Its ranges may not overlap another pool, a node's address or a router.`,
		Example: "  dyad pool add web 203.0.113.0/28\n  dyad pool add db 192.0.2.10-192.0.2.20 2001:db8:1::/112 --switch vSwitch1 --manual",
		Args:    cli.Args(2, -1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			ranges, err := parse.Ranges(args[1:])
			if err != nil {
				return err
			}
			return env.Change(cmd.Context(), projections.SetPool{
				Name: args[0], Ranges: ranges, Switch: f.sw, Manual: f.manual, New: true,
			}, cli.ChangeOptions{})
		},
	}
	f.define(env, cmd)
	return cmd
}

func set(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "set NAME [RANGE]...",
		Short: "Change a pool",
		Long: `set changes what is given and keeps the rest. Ranges replace all ranges of the pool;
an address in use may not be left out.`,
		Example: "  dyad pool set web 203.0.113.0/27\n  dyad pool set web --manual=false",
		Args:    cli.Args(1, -1), ValidArgsFunction: env.Complete(cli.PoolNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ranges, err := parse.Ranges(args[1:])
			if err != nil {
				return err
			}
			p, err := find(cmd.Context(), env, args[0])
			if err != nil {
				return err
			}
			c := projections.SetPool{Name: p.Name, Ranges: p.Ranges, Switch: p.Switch, Manual: p.Manual}
			if len(ranges) > 0 {
				c.Ranges = ranges
			}
			if cmd.Flags().Changed("switch") {
				c.Switch = f.sw
			}
			if cmd.Flags().Changed("manual") {
				c.Manual = f.manual
			}
			return env.Change(cmd.Context(), c, cli.ChangeOptions{})
		},
	}
	f.define(env, cmd)
	return cmd
}

func find(ctx context.Context, env *cli.Env, name string) (api.PoolView, error) {
	pools, err := cli.Ask(ctx, env, env.Client().Pools)
	if err != nil {
		return api.PoolView{}, err
	}
	return cli.Find("pool", name, pools, func(p api.PoolView) bool { return p.Name == name })
}

func remove(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a pool that no service uses",
		Long:    `remove removes a pool. A pool with addresses in use is refused.`,
		Example: "  dyad pool remove web",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.PoolNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Change(cmd.Context(), projections.RemovePool{Name: args[0]}, cli.ChangeOptions{})
		},
	}
}

func list(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "The pools, and how full they are",
		Long:    `list shows every pool with its size and use.`,
		Example: "  dyad pool list",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				pools, err := env.Client().Pools(ctx)
				if err != nil {
					return err
				}
				return table.Print(env, pools)
			})
		},
	}
}

func ranges(list []eventlog.Range) string {
	var out []string
	for _, r := range list {
		out = append(out, r.String())
	}
	return strings.Join(out, ",")
}

var table = cli.List[api.PoolView]{
	Name:  func(p api.PoolView) string { return "pool/" + p.Name },
	Empty: "no pools; dyad pool add NAME RANGE adds one",
	Columns: []cli.Column[api.PoolView]{
		{Head: "NAME", Value: func(p api.PoolView) string { return p.Name }},
		{Head: "RANGES", Value: func(p api.PoolView) string { return ranges(p.Ranges) }},
		{Head: "SWITCH", Value: func(p api.PoolView) string { return p.Switch }},
		{Head: "MANUAL", Value: func(p api.PoolView) string { return cli.YesNo(p.Manual) }},
		{Head: "SIZE", Right: true, Value: func(p api.PoolView) string { return p.Size }},
		{Head: "USED", Right: true, Value: func(p api.PoolView) string { return strconv.Itoa(p.Used) }},
		{Head: "SERVICES", Right: true, Value: func(p api.PoolView) string { return strconv.Itoa(p.Users) }},
	},
}

func show(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "One pool, and who has its addresses",
		Long:    `show prints one pool with the services that have addresses from it.`,
		Example: "  dyad pool show web",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.PoolNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				p, err := find(ctx, env, args[0])
				if err != nil {
					return err
				}
				services, err := env.Client().Services(ctx)
				if err != nil {
					return err
				}
				return env.Show(p, "pool/"+p.Name, fields(p, services))
			})
		},
	}
}

func fields(p api.PoolView, services []eventlog.Service) []cli.Field {
	out := []cli.Field{
		{Name: "Name", Value: p.Name},
		{Name: "Ranges", Value: ranges(p.Ranges)},
		{Name: "Switch", Value: p.Switch},
		{Name: "Manual", Value: cli.YesNo(p.Manual)},
		{Name: "Used", Value: strconv.Itoa(p.Used) + " of " + p.Size},
	}
	for _, s := range services {
		if s.Pool != p.Name {
			continue
		}
		for _, a := range s.Addresses {
			out = append(out, cli.Field{Name: a.String(), Value: s.Name})
		}
	}
	return out
}
