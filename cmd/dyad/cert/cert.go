// Package cert holds the commands on certificates.
package cert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cluster/identity"
	"dyad/cmd/dyad/cli"
	"dyad/projections"
)

// defaultTTL is how long a user's certificate is good for unless told otherwise.
const defaultTTL = 90 * 24 * time.Hour

// Commands is the noun cert.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "cert",
		Short: "Certificates of nodes and users",
		Long: `Nodes know each other, and users from elsewhere, by certificates of the cluster's own
authority, which dyad init makes. A node's certificate renews itself; a user's
carries the role viewer, operator or admin, and ends.`,
		Example: "  dyad cert list",
	}, list(env), issue(env), revoke(env), rotate(env))}
}

func list(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The certificates of this node",
		Long: `list shows the authority's certificate and the node's: whose it is, its role, until
when it is good, when the agent renews it, and its fingerprint (SHA-256). Behind
them stand the certificates that are refused on both nodes before they end: those
revoked, and those of nodes that were removed.`,
		Example: "  dyad cert list\n  dyad cert list -o json",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				id, err := env.Client().Identity(ctx)
				if err != nil {
					return err
				}
				if env.Output == cli.JSON || env.Output == cli.YAML {
					return env.Document(id)
				}
				return table(env).Print(env, shown(id))
			})
		},
	}
}

// row is a certificate, or what is revoked.
type row struct {
	api.Certificate
	revoked string
}

func shown(id api.Identity) []row {
	rows := make([]row, 0, len(id.Certificates)+len(id.Revoked))
	for _, c := range id.Certificates {
		rows = append(rows, row{Certificate: c})
	}
	for _, r := range id.Revoked {
		c := row{Certificate: api.Certificate{Subject: r.Name, Kind: r.Kind, Fingerprint: r.Fingerprint, Expires: r.Until}, revoked: "revoked"}
		switch {
		case r.Kind == string(identity.Node) && r.Readmitted:
			c.revoked = "the node was replaced"
		case r.Kind == string(identity.Node):
			c.revoked = "the node was removed"
		case r.Fingerprint == "":
			c.revoked = "revoked, all issued before"
		}
		rows = append(rows, c)
	}
	return rows
}

func table(env *cli.Env) cli.List[row] {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return env.Time(t)
	}
	return cli.List[row]{
		Name:  func(c row) string { return "certificate/" + c.Subject },
		Empty: "no certificates; dyad init makes the first",
		Columns: []cli.Column[row]{
			{Head: "SUBJECT", Value: func(c row) string { return c.Subject }},
			{Head: "KIND", Value: func(c row) string { return c.Kind }},
			{Head: "ROLE", Value: func(c row) string { return c.Role }},
			{Head: "EXPIRES", Value: func(c row) string { return at(c.Expires) }},
			{Head: "RENEWS", Value: func(c row) string { return at(c.Renews) }},
			{Head: "FINGERPRINT", Value: func(c row) string { return c.Fingerprint }},
			{Head: "REVOKED", Value: func(c row) string { return c.revoked }},
		},
	}
}

func issue(env *cli.Env) *cobra.Command {
	var role, out string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "issue NAME", Short: "Make a certificate for a user",
		Long: `issue makes a key here and has the agent sign a certificate for it. The files
client.key, client.crt and ca.crt go into the directory --out; the user keeps them
in ~/.config/dyad, where dyad --agent finds them. Give it the role and the time that
are needed, and no more; dyad cert revoke takes it back.`,
		Example: "  dyad cert issue alice --role operator --out ./alice\n  dyad cert issue grafana --role viewer --ttl 8760h --out ./grafana",
		Args:    cli.Args(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := api.ParseRole(role); err != nil {
				return cli.Usage("cert issue", "--role says what the user may do, and "+fmt.Sprintf("%q", role)+" is no role", "--role viewer, operator or admin")
			}
			if out == "" {
				return cli.Usage("cert issue", "--out says where the files go", "--out ./"+args[0])
			}
			return issued(cmd.Context(), env, api.CertificateRequest{Name: args[0], Role: api.Role(role), TTL: ttl, Reason: env.Reason}, out)
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "viewer, operator or admin")
	cmd.Flags().DurationVar(&ttl, "ttl", defaultTTL, "how long it is good for, 1h to 8784h")
	cmd.Flags().StringVar(&out, "out", "", "`DIR` for the files")
	// Completion of a flag's value only fails for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"viewer", "operator", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func issued(ctx context.Context, env *cli.Env, r api.CertificateRequest, out string) error {
	if env.DryRun {
		return env.Line("would: sign a certificate for %s, role %s, good for %s", r.Name, r.Role, r.TTL)
	}
	if f := identity.UserFiles(out).Key; exists(f) {
		return cli.Usage("cert issue", f+" is there already, and a key is never overwritten", "--out with another directory, or move the key away")
	}
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	request, err := identity.Request(key)
	if err != nil {
		return err
	}
	r.Request = string(request)
	ans, err := cli.Ask(ctx, env, func(ctx context.Context) (api.CertificateAnswer, error) { return env.Client().IssueCertificate(ctx, r) })
	if err != nil {
		return err
	}
	files, err := identity.WriteUser(out, key, []byte(ans.Chain))
	if err != nil {
		return err
	}
	return env.Show(ans.Certificate, "certificate/"+ans.Subject, []cli.Field{
		{Name: "Subject", Value: ans.Subject},
		{Name: "Role", Value: ans.Role},
		{Name: "Expires", Value: env.Time(ans.Expires)},
		{Name: "Fingerprint", Value: ans.Fingerprint},
		{Name: "Certificate", Value: files.Cert},
		{Name: "Key", Value: files.Key},
		{Name: "Authority", Value: files.CA},
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func revoke(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME|FINGERPRINT", Short: "Take certificates of a user back",
		Long: `revoke makes all certificates of a user that were issued until now worthless, or the
one with a fingerprint: on both nodes, at once. One that is issued to the same name
later is good. A node's certificates go with the node: dyad node remove.`,
		Example: "  dyad cert revoke alice --reason \"she left\"\n  dyad cert revoke 9f2c0f6d6a5c0b8e4f0f3d1b7a9e8c6d5b4a39281706f5e4d3c2b1a09f8e7d6c",
		Args:    cli.Args(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := projections.RevokeCertificate{Name: args[0]}
			if raw, err := hex.DecodeString(args[0]); err == nil && len(raw) == sha256.Size {
				c = projections.RevokeCertificate{Fingerprint: strings.ToLower(args[0])}
			}
			return env.Change(cmd.Context(), c, cli.ChangeOptions{})
		},
	}
}

func rotate(env *cli.Env) *cobra.Command {
	var gossip bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Renew this node's certificate, or the gossip key",
		Long: `rotate makes a new key and certificate for the node now; it also renews by itself, at
two thirds of its lifetime. With --gossip-key it makes a new key for the gossip
instead, on both nodes, which must run: first both learn it, then both use it,
then both forget the old one. Nothing restarts either way.`,
		Example: "  dyad cert rotate\n  dyad cert rotate --gossip-key --reason \"a laptop was lost\"",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if env.DryRun {
				return env.Line("would: make a new key")
			}
			r := api.RotateRequest{GossipKey: gossip, Reason: env.Reason}
			ans, err := cli.Ask(cmd.Context(), env, func(ctx context.Context) (api.RotateAnswer, error) { return env.Client().Rotate(ctx, r) })
			if err != nil {
				return err
			}
			fields := []cli.Field{{Name: "Gossip key", Value: ans.GossipKey}, {Name: "Nodes", Value: fmt.Sprint(ans.Nodes)}}
			if c := ans.Certificate; c != nil {
				fields = []cli.Field{
					{Name: "Subject", Value: c.Subject}, {Name: "Expires", Value: env.Time(c.Expires)}, {Name: "Fingerprint", Value: c.Fingerprint},
				}
			}
			return env.Show(ans, "certificate", fields)
		},
	}
	cmd.Flags().BoolVar(&gossip, "gossip-key", false, "renew the gossip key on both nodes")
	return cmd
}
