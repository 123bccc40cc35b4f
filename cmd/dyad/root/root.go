// Package root puts dyad's command tree together.
package root

import (
	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
)

// New is the command tree: the operator's commands, and extra, the commands
// that need the adapters (agent, init, join, lab, drill).
func New(env *cli.Env, extra ...*cobra.Command) *cobra.Command {
	root := cli.Group(&cobra.Command{
		Use:   "dyad",
		Short: "Addresses for services on a cluster of two nodes",
		Long: `dyad gives services an address from a pool, announces it by BGP from both nodes of
a cluster, and moves it to the surviving node when the other one dies. Every
change and every failover is an event that can be asked for.

The commands talk to the agent on this node; a change acts on the whole cluster.`,
		Example:       "  dyad status\n  dyad peer list\n  dyad log list --since 10m",
		SilenceErrors: true, SilenceUsage: true,
	})
	root.SetHelpCommand(helpCommand(env))
	root.CompletionOptions.DisableDefaultCmd = true
	env.AddGlobals(root)
	root.AddCommand(operators(env)...)
	root.AddCommand(extra...)
	bare := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return bare(cmd, args)
	}
	return root
}

func helpCommand(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help for a command",
		Long:    "help prints what --help prints.",
		Example: "  dyad help peer add",
		RunE: func(cmd *cobra.Command, args []string) error {
			sub, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				if len(rest) == 0 {
					rest = args
				}
				return cli.Unknown(sub, rest[0])
			}
			sub.SetOut(env.Out)
			return sub.Help()
		},
	}
}
