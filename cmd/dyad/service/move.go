package service

import (
	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
	"dyad/projections"
)

func move(env *cli.Env) *cobra.Command {
	var c projections.MoveServices
	cmd := &cobra.Command{
		Use:   "move NAME...",
		Short: "Let another node carry a service's traffic",
		Long: `move makes a node the preferred one of services in active-standby: their traffic goes
there without losing a packet, as both nodes announce and forward all the while. It
stays the preferred one until it is moved again. Without --to each service goes to the
node it does not prefer now.`,
		Example: `  dyad service move shop
  dyad service move shop dns --to node-b --reason "node-a gets a new disk"
  dyad service move --all --to node-a`,
		ValidArgsFunction: env.Complete(cli.ServiceNames),
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case c.All && len(args) > 0:
				return cli.Usage("--all", "it means every service, and "+args[0]+" is named too", "leave one of them out")
			case !c.All && len(args) == 0:
				return cli.Usage("service move", "no service is named", "dyad service move NAME, or --all --to NODE")
			case c.All && c.To == "":
				return cli.Usage("--all", "all services can't change places: it needs --to", "--to NODE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Services = args
			return env.Change(cmd.Context(), c, cli.ChangeOptions{})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&c.To, "to", "", "the `NODE` that is to carry the traffic (default: the other one)")
	fs.BoolVar(&c.All, "all", false, "every service in active-standby")
	env.CompleteFlag(cmd, "to", cli.NodeNames)
	return cmd
}
