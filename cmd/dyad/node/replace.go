package node

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cluster/identity"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/words"
)

// defaultTTL is how long the new machine has to join.
const defaultTTL = time.Hour

// replaced is what replace answers with -o json.
type replaced struct {
	api.ReplaceNodeResult
	TokenID string    `json:"token_id,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
	// Join is what to run on the new machine. The token stands in it.
	Join string `json:"join,omitempty"`
}

func replace(env *cli.Env) *cobra.Command {
	var with string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "replace NAME", Short: "Put a new machine in the place of a node that is lost",
		Long: `replace takes a dead node out, as remove does, and prints the command that lets a new
machine join in its place, with a token for it. The new one has the same name, or
that of --with. Services that prefer the old one prefer it, and it has the old
one's ports on the switches until it declares its own. Whether the old one was
drained is forgotten. The old machine's certificates are refused from then on.

Ask it of the node that stays; the log must be writable there: after a death that
nobody else decided, dyad takeover comes first. It can be repeated: each time there
is a new token.`,
		Example: "  dyad node replace node-b --reason \"mainboard\"\n  dyad node replace node-b --with node-c --ttl 8h",
		Args:    cli.Args(1, 1), ValidArgsFunction: env.Complete(cli.NodeNames),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := env.Client().Identity(cmd.Context())
		if err != nil {
			return err
		}
		t := identity.NewToken(id.CAFingerprint)
		r := api.ReplaceNodeRequest{Node: args[0], With: with, Token: t.Fingerprint, TTL: ttl, Reason: env.Reason, DryRun: env.DryRun}
		done := env.Progress(cmd.Context(), "replacing "+args[0])
		res, err := env.Client().ReplaceNode(cmd.Context(), r)
		done()
		if err != nil {
			return err
		}
		out := replaced{ReplaceNodeResult: res}
		if !res.DryRun {
			out.TokenID, out.Expires = t.ID, env.Now().Add(ttl).UTC()
			out.Join = fmt.Sprintf("dyad join %s --token %s", res.API, t.Reveal())
		}
		return tellReplaced(env, out, ttl)
	}
	cmd.Flags().StringVar(&with, "with", "", "`NAME` of the new machine; default: the same")
	cmd.Flags().DurationVar(&ttl, "ttl", defaultTTL, "how long the token is good for, 1m to 24h")
	return cmd
}

func tellReplaced(env *cli.Env, out replaced, ttl time.Duration) error {
	switch {
	case env.Output == cli.JSON || env.Output == cli.YAML:
		return env.Document(out)
	case env.Output == cli.Name:
		return env.Line("node/%s", out.With)
	case out.DryRun:
		for _, e := range out.Events {
			if err := env.Line("would: %s", words.Event(e.Draft)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, e := range out.Events {
		env.Note("%s", words.Event(e.Draft))
	}
	env.Note("on the new machine, with %q as its node: in the configuration and an empty data directory, within %s:", out.With, ttl)
	if err := env.Line("%s", out.Join); err != nil {
		return err
	}
	env.Note("%s knew the cluster's keys. If it may fall into other hands: dyad cert rotate --gossip-key, once the new machine has joined", out.Node)
	return nil
}
