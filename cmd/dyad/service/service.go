// Package service holds the commands on services.
package service

import (
	"context"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/parse"
	"dyad/cmd/dyad/words"
	"dyad/eventlog"
	"dyad/projections"
)

// Commands is the noun service.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:     "service",
		Aliases: []string{"svc"},
		Short:   "What is reachable at an address from a pool",
		Long: `A service has an address from a pool, or one of each family. Both nodes announce it;
in active-standby the preferred node carries the traffic, in active-active the
router spreads it over both. On a switch without a BGP peer one node at a time
answers for it.`,
		Example: "  dyad service list",
	}, add(env), set(env), move(env), remove(env), list(env), show(env))}
}

type flags struct {
	pool, family, placement, prefer, check string
	addresses                              []string
	interval, timeout                      time.Duration
}

func (f *flags) define(env *cli.Env, cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.pool, "pool", "", "take the address from the pool `NAME` (default: any that is not manual)")
	fs.StringArrayVar(&f.addresses, "address", nil, "this `ADDRESS` instead of the lowest free one; once for each family")
	fs.StringVar(&f.family, "family", "", "`FAMILY`: ipv4, ipv6 or dual (default: ipv4 where the pool has it)")
	fs.StringVar(&f.placement, "placement", "", "`PLACEMENT`: active-standby (default) or active-active")
	fs.StringVar(&f.prefer, "prefer", "", "the `NODE` that carries the traffic in active-standby (default: balanced)")
	fs.StringVar(&f.check, "check", "", "local health `CHECK`: tcp:HOST:PORT, http://URL, https://URL, exec:COMMAND, or none")
	fs.DurationVar(&f.interval, "check-interval", 0, "time between two checks, 100ms–1h (default 1s)")
	fs.DurationVar(&f.timeout, "check-timeout", 0, "time one check may take, 100ms–1h (default 500ms)")
	env.CompleteFlag(cmd, "pool", cli.PoolNames)
	env.CompleteFlag(cmd, "prefer", cli.NodeNames)
	cli.CompleteWords(cmd, "family", "ipv4", "ipv6", "dual")
	cli.CompleteWords(cmd, "placement", string(eventlog.ActiveStandby), string(eventlog.ActiveActive))
}

// noCheck removes a check.
const noCheck = "none"

// fill puts what was typed into c, which holds what stands.
func (f *flags) fill(c *projections.SetService) (err error) {
	c.Pool = f.pool
	if f.family != "" {
		if c.Family, err = parse.OneOf("--family", f.family, "ipv4", "ipv6", "dual"); err != nil {
			return err
		}
	}
	if f.placement != "" {
		p, err := parse.OneOf("--placement", f.placement, string(eventlog.ActiveStandby), string(eventlog.ActiveActive))
		if err != nil {
			return err
		}
		if c.Placement = eventlog.Placement(p); c.Placement == eventlog.ActiveActive {
			c.Prefer = "" // it prefers none
		}
	}
	if f.prefer != "" {
		c.Prefer = f.prefer
	}
	if c.Addresses, err = addresses(f.addresses); err != nil {
		return err
	}
	return f.fillCheck(c)
}

func addresses(list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range list {
		a, err := parse.Address("--address", text)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func (f *flags) fillCheck(c *projections.SetService) error {
	switch {
	case f.check == noCheck:
		c.Check = nil
	case f.check != "":
		check, err := parse.Check(f.check)
		if err != nil {
			return err
		}
		if old := c.Check; old != nil {
			check.Interval, check.Timeout, check.Rise, check.Fall = old.Interval, old.Timeout, old.Rise, old.Fall
		}
		c.Check = check
	}
	if f.interval == 0 && f.timeout == 0 {
		return nil
	}
	if c.Check == nil {
		return cli.Usage("--check-interval, --check-timeout", "there is no check they could belong to", "--check tcp:127.0.0.1:8080")
	}
	check := *c.Check
	if f.interval != 0 {
		check.Interval = f.interval
	}
	if f.timeout != 0 {
		check.Timeout = f.timeout
	}
	c.Check = &check
	return nil
}

func add(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a service",
		Long: `add gives a service an address and announces it from both nodes. With a check, a node
announces it only while the check on that node succeeds.`,
		Example: `  dyad service add shop --check http://127.0.0.1:8080/healthz
  dyad service add dns --pool web --address 203.0.113.5 --prefer node-a
  dyad service add cdn --placement active-active --family dual`,
		Args: cli.Args(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := projections.SetService{Name: args[0], New: true}
			if err := f.fill(&c); err != nil {
				return err
			}
			return env.Change(cmd.Context(), c, cli.ChangeOptions{})
		},
	}
	f.define(env, cmd)
	return cmd
}

func set(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:     "set NAME",
		Short:   "Change a service",
		Long:    `set changes what is given and keeps the rest. Addresses only change if a pool, a family or an address is given.`,
		Example: "  dyad service set shop --prefer node-b\n  dyad service set shop --check none",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.ServiceNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := find(cmd.Context(), env, args[0])
			if err != nil {
				return err
			}
			c := projections.SetService{Name: s.Name, Placement: s.Placement, Check: s.Check}
			if s.Pinned {
				c.Prefer = s.Preferred
			}
			if err := f.fill(&c); err != nil {
				return err
			}
			return env.Change(cmd.Context(), c, cli.ChangeOptions{})
		},
	}
	f.define(env, cmd)
	return cmd
}

func find(ctx context.Context, env *cli.Env, name string) (eventlog.Service, error) {
	services, err := cli.Ask(ctx, env, env.Client().Services)
	if err != nil {
		return eventlog.Service{}, err
	}
	return cli.Find("service", name, services, func(s eventlog.Service) bool { return s.Name == name })
}

func remove(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a service and free its addresses",
		Long:    `remove withdraws a service's addresses from both nodes and frees them.`,
		Example: "  dyad service remove shop",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.ServiceNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Change(cmd.Context(), projections.RemoveService{Name: args[0]}, cli.ChangeOptions{})
		},
	}
}

func list(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "The services and their addresses",
		Long:    `list shows every service. dyad announcement list shows what the nodes announce.`,
		Example: "  dyad service list -o wide",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				services, err := env.Client().Services(ctx)
				if err != nil {
					return err
				}
				return table.Print(env, services)
			})
		},
	}
}

var table = cli.List[eventlog.Service]{
	Name:  func(s eventlog.Service) string { return "service/" + s.Name },
	Empty: "no services; dyad service add NAME adds one",
	Columns: []cli.Column[eventlog.Service]{
		{Head: "NAME", Value: func(s eventlog.Service) string { return s.Name }},
		{Head: "ADDRESSES", Value: func(s eventlog.Service) string { return words.Addresses(s.Addresses) }},
		{Head: "POOL", Value: func(s eventlog.Service) string { return s.Pool }},
		{Head: "PLACEMENT", Value: func(s eventlog.Service) string { return string(s.Placement) }},
		{Head: "PREFERRED", Value: func(s eventlog.Service) string { return s.Preferred }},
		{Head: "CHECK", Value: func(s eventlog.Service) string { return parse.CheckString(s.Check) }},
		{Head: "PINNED", Wide: true, Value: func(s eventlog.Service) string { return cli.YesNo(s.Pinned) }},
	},
}

func show(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "One service, and what every node announces for it",
		Long:    `show prints one service with what every node announces or withholds for it, and why.`,
		Example: "  dyad service show shop",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.ServiceNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				s, err := find(ctx, env, args[0])
				if err != nil {
					return err
				}
				nodes, err := env.Client().Announcements(ctx, "")
				if err != nil {
					return err
				}
				fields := []cli.Field{
					{Name: "Name", Value: s.Name},
					{Name: "Addresses", Value: words.Addresses(s.Addresses)},
					{Name: "Pool", Value: s.Pool},
					{Name: "Placement", Value: string(s.Placement)},
					{Name: "Preferred", Value: s.Preferred},
					{Name: "Check", Value: words.Check(s.Check)},
				}
				for _, n := range nodes {
					if n.Error != "" {
						fields = append(fields, cli.Field{Name: n.Node, Value: "no answer: " + n.Error})
					}
					for _, a := range n.Items {
						if a.Service == s.Name {
							fields = append(fields, cli.Field{Name: n.Node, Value: words.Announcement(a)})
						}
					}
				}
				return env.Show(s, "service/"+s.Name, fields)
			})
		},
	}
}
