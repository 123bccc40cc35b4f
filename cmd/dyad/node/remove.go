package node

import (
	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
)

func remove(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take the other node out of the cluster",
		Long: `remove takes the other node out: the log has one writer from then on, the node's
ports leave their switches, and if it still runs it stops announcing. Drain it
first, and no packet is lost. Its data directory stays as it is; a node that shall
join again, or another in its place, needs an empty one and a token.

The name may also be that of a third voter (dyad join --voter-only): its vote is
taken back, which needs both nodes, and they are a pair again.

It must be asked of the node that stays, and the log must be writable there: after
a death that nobody else decided, dyad takeover comes first.`,
		Example: "  dyad node remove node-b --reason \"replaced\"",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.NodeNames),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		done := env.Progress(cmd.Context(), "removing "+args[0])
		res, err := env.Client().RemoveNode(cmd.Context(), api.RemoveNodeRequest{Node: args[0], Reason: env.Reason, DryRun: env.DryRun})
		done()
		if err != nil {
			return err
		}
		if env.Output == cli.JSON || env.Output == cli.YAML {
			return env.Document(res)
		}
		word := "is removed"
		if res.DryRun {
			word = "would be removed"
		}
		rest := "this node writes the log alone"
		switch res.Mode {
		case "PAIR":
			rest = "the two nodes write the log as a pair"
		case "EXTERNAL":
			rest = "this node alone writes the log in the external store"
		}
		return env.Line("%s", args[0]+" "+word+"; "+rest)
	}
	return cmd
}
