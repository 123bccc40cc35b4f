// Package takeover holds the command by which an operator lets one node go on
// alone with the log.
package takeover

import (
	"fmt"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
)

// Commands is the takeover command.
func Commands(env *cli.Env) []*cobra.Command {
	var r api.TakeoverRequest
	cmd := &cobra.Command{
		Use:   "takeover --confirm NODE --reason TEXT",
		Short: "Go on alone with the log while the other node is down",
		Long: `takeover makes this node the only writer of the log. A pair writes only with both
nodes; where no witness, fence or router may decide, a person says that the other
one is down. Everything that was acknowledged is on this node's disk, so nothing is
lost; announcements were never stopped. When the other node returns it sets its own
log aside, joins again, and the log is a pair's.

--confirm names the node that is down: make sure that it is. Two nodes that go on
alone write two histories, of which one must be given up. With a witness its word is
asked for too; --without-witness does without it, and you vouch that the other node
stays off until this one has told the witness.

--dry-run says what would be and what may be lost.`,
		Example: "  dyad takeover --confirm node-b --reason \"node-b burnt down\" --dry-run\n" +
			"  dyad takeover --confirm node-b --reason \"node-b burnt down\"",
		Args: cli.Args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if r.Peer == "" {
			return cli.Usage("takeover", "the node that is down must be named", "dyad takeover --confirm NODE --reason TEXT; dyad node list")
		}
		r.Reason, r.DryRun = env.Reason, env.DryRun
		done := env.Progress(cmd.Context(), "taking the log over")
		res, err := env.Client().Takeover(cmd.Context(), r)
		done()
		if err != nil {
			return err
		}
		return print(env, res)
	}
	f := cmd.Flags()
	f.StringVar(&r.Peer, "confirm", "", "the `NODE` that is down")
	f.BoolVar(&r.WithoutWitness, "without-witness", false, "go on although the witness can't be asked")
	f.BoolVar(&r.AcceptLoss, "accept-loss", false, "go on from a log that the other node may have gone on without")
	// Completion of a flag's value only fails for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("confirm", env.Complete(cli.NodeNames))
	return []*cobra.Command{cmd}
}

func print(env *cli.Env, res api.TakeoverResult) error {
	if env.Output == cli.JSON || env.Output == cli.YAML {
		return env.Document(res)
	}
	verb := "writes the log alone since"
	if res.DryRun {
		verb = "would write the log alone from"
	}
	if err := env.Line("%s", fmt.Sprintf("%s %s epoch %d on", res.Node, verb, res.Epoch)); err != nil {
		return err
	}
	for _, n := range res.Notes {
		if err := env.Line("%s", "- "+n); err != nil {
			return err
		}
	}
	return nil
}
