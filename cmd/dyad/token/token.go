// Package token holds the commands on join tokens.
package token

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cluster/identity"
	"dyad/cmd/dyad/cli"
	"dyad/projections"
)

// defaultTTL is how long a token is good for unless told otherwise.
const defaultTTL = 15 * time.Minute

// Commands is the noun token.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "token",
		Short: "Tokens that admit a node",
		Long: `A token lets one node join, once, within its time. It names the cluster's authority,
so that the node which joins knows whom it talks to, and it holds a key whose
secret half is nowhere else: not in the log, not in the agent.`,
		Example: "  dyad token create",
	}, create(env), list(env), revoke(env))}
}

func create(env *cli.Env) *cobra.Command {
	var ttl time.Duration
	var out string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a token, and print it once",
		Long: `create makes a token and prints it as one word. It is not kept anywhere: copy it, or
have it written into a file with --out. Give it to dyad join on the other node.`,
		Example: "  dyad token create\n  dyad token create --ttl 1h --reason \"node-b is replaced\"\n  dyad token create --out ./token",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := cli.Ask(cmd.Context(), env, func(ctx context.Context) (api.Identity, error) { return env.Client().Identity(ctx) })
			if err != nil {
				return err
			}
			t := identity.NewToken(id.CAFingerprint)
			r := api.Request{Key: uuid.NewString(), Reason: env.Reason, DryRun: env.DryRun, Interface: "cli", Client: "dyad/" + cli.Version}
			res, err := env.Client().Do(cmd.Context(), projections.CreateToken{Fingerprint: t.Fingerprint, TTL: ttl}, r)
			if err != nil {
				return err
			}
			if res.DryRun {
				return env.Line("would: make a token, good for %s", ttl)
			}
			return hand(env, t, ttl, out)
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", defaultTTL, "how long it is good for, 1m to 24h")
	cmd.Flags().StringVar(&out, "out", "", "write the token into `FILE`, readable by its owner alone, instead of printing it")
	return cmd
}

// made is what create answers with -o json.
type made struct {
	ID      string    `json:"id"`
	Token   string    `json:"token,omitempty"`
	File    string    `json:"file,omitempty"`
	Expires time.Time `json:"expires"`
}

// hand gives the token to whoever asked for it.
func hand(env *cli.Env, t identity.Token, ttl time.Duration, out string) error {
	m := made{ID: t.ID, Token: t.Reveal(), Expires: env.Now().Add(ttl).UTC()}
	how := "--token TOKEN"
	if out != "" {
		if err := writeNew(out, t.Reveal()+"\n"); err != nil {
			return fmt.Errorf("token %s was made, but can't be written: %w\n  try: dyad token revoke %s, and make another", t.ID, err, t.ID)
		}
		m.Token, m.File, how = "", out, "--token-file "+out
	}
	switch {
	case env.Output == cli.JSON || env.Output == cli.YAML:
		return env.Document(m)
	case env.Output == cli.Name:
		return env.Line("token/%s", t.ID)
	case out == "":
		if err := env.Line("%s", m.Token); err != nil {
			return err
		}
	}
	env.Note("token %s is good for %s; on the other node: dyad join ADDRESS %s", t.ID, ttl, how)
	return nil
}

func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

var table = cli.List[api.TokenView]{
	Name:  func(t api.TokenView) string { return "token/" + t.ID },
	Empty: "no tokens; dyad token create makes one",
	Columns: []cli.Column[api.TokenView]{
		{Head: "ID", Value: func(t api.TokenView) string { return t.ID }},
		{Head: "PURPOSE", Value: func(t api.TokenView) string { return t.Purpose }},
		{Head: "STATE", Value: func(t api.TokenView) string { return t.State }},
		{Head: "NODE", Value: func(t api.TokenView) string { return t.Node }},
		{Head: "FINGERPRINT", Wide: true, Value: func(t api.TokenView) string { return t.Fingerprint }},
	},
}

func list(env *cli.Env) *cobra.Command {
	t := table
	t.Columns = append(t.Columns[:len(t.Columns):len(t.Columns)], cli.Column[api.TokenView]{
		Head: "EXPIRES", Value: func(v api.TokenView) string { return env.Time(v.Expires) },
	})
	return &cobra.Command{
		Use: "list", Short: "The tokens, without their secrets",
		Long:    `list shows the tokens that wait, were used, or expired lately.`,
		Example: "  dyad token list",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				items, err := env.Client().Tokens(ctx)
				if err != nil {
					return err
				}
				return t.Print(env, items)
			})
		},
	}
}

func revoke(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make a token worthless",
		Long:    `revoke makes a token worthless at once. A node that joined with it stays.`,
		Example: "  dyad token revoke 0a1b2c3d4e5f",
		Args:    cli.Args(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.Change(cmd.Context(), projections.RevokeToken{ID: args[0]}, cli.ChangeOptions{})
		},
	}
}
