// Package explain holds the command that says what is with an address.
package explain

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/parse"
	"dyad/cmd/dyad/words"
)

// Commands is the explain command.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{{
		Use:   "explain ADDRESS",
		Short: "Why an address is announced, or not",
		Long: `explain says who has an address, where it comes from, what every node tells whom about
it, and why; and which events led to that.`,
		Example: "  dyad explain 203.0.113.0",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.AddressNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := parse.Address("address", args[0])
			if err != nil {
				return err
			}
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				x, err := env.Client().Explain(ctx, addr)
				if err != nil {
					return err
				}
				if env.Output == cli.JSON || env.Output == cli.YAML {
					return env.Document(x)
				}
				if env.Output == cli.Name {
					return env.Line("address/%s", x.Address)
				}
				for _, l := range x.Lines {
					if err := env.Line("%s", cli.Clean(l)); err != nil {
						return err
					}
				}
				for _, e := range x.Events {
					text := "event " + strconv.FormatUint(uint64(e.Seq), 10) + ", " + env.Time(e.Time) + ", " + e.Actor.Name + ": " + words.Event(e.Draft)
					if e.Reason != "" {
						text += " (" + e.Reason + ")"
					}
					if err := env.Line("%s", cli.Clean(text)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}}
}
