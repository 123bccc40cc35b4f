// Package witness holds the commands on the cluster's witness, and "dyad witness
// serve", which is one.
package witness

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/projections"
)

// Commands is the noun witness.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{cli.Group(&cobra.Command{
		Use:   "witness",
		Short: "The third party that says which node may go on alone",
		Long: `A witness holds one line for each cluster: which nodes may write its log, since
when. When the nodes no longer hear each other, the first that asks it may go on
alone, and the other one may not. It carries no traffic and no data of the
cluster. It can be a "dyad witness serve" on a third machine, a directory that
both nodes mount by NFS version 4, or a key in another etcd.`,
		Example: "  dyad witness status",
	}, add(env), remove(env), status(env), serve(env), list(env))}
}

// maxToken bounds a token file, in bytes.
const maxToken = 512

// readToken reads a token from a file: a list of processes would show it.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", cli.Usage("--token-file", err.Error(), "head -c 24 /dev/urandom | base64 > FILE")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	token := strings.TrimSpace(string(b))
	switch {
	case err != nil:
	case len(b) > maxToken:
		err = errors.New("it is longer than 512 bytes")
	case token == "" || strings.ContainsAny(token, " \t\r\n"):
		err = errors.New("it does not hold one word")
	}
	if err != nil {
		return "", cli.Usage("--token-file "+file, err.Error(), "head -c 24 /dev/urandom | base64 > FILE")
	}
	return token, nil
}

func add(env *cli.Env) *cobra.Command {
	var tokenFile string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add URL",
		Short: "Register the cluster at a witness, and ask that one from now on",
		Long: `add registers which nodes write the log at the witness, and then names it in the
log. Both nodes must be up to date. It counts when both have taken it over; the
log starts a new epoch then. With --replace it takes the place of the one that the
cluster has, which need not answer any more. The URL is one of

  https://HOST:PORT#FINGERPRINT    as dyad witness serve prints it
  file:///DIRECTORY/               on NFS version 4, mounted by both nodes
  etcd://HOST:PORT/KEY?ca=FILE&cert=FILE&key=FILE

It stands in the log, so it holds no secret: a token is read from a file. If the
witness has lost its memory, add registers the cluster again.`,
		Example: "  dyad witness add https://witness.example:7990#9f2c0f6d6a5c0b8e4f0f3d1b7a9e8c6d5b4a39281706f5e4d3c2b1a09f8e7d6c\n" +
			"  dyad witness add https://witness.example:7990 --token-file ./token\n  dyad witness add file:///mnt/dyad/",
		Args: cli.Args(1, 1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := api.WitnessRequest{
				URL: args[0], Replace: replace, Reason: env.Reason, Key: uuid.NewString(), DryRun: env.DryRun, Interface: "cli", Client: "dyad/" + cli.Version,
			}
			if tokenFile != "" {
				var err error
				if r.Token, err = readToken(tokenFile); err != nil {
					return err
				}
			}
			if !env.NoWait && !env.DryRun {
				r.Wait = env.Timeout
			}
			done := env.Progress(cmd.Context(), "registering at the witness")
			res, err := env.Client().AddWitness(cmd.Context(), r)
			done()
			if err != nil {
				return err
			}
			return env.Tell("witness add", res)
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "`FILE` with the token of a witness that takes new clusters by token")
	cmd.Flags().BoolVar(&replace, "replace", false, "in the place of the witness that the cluster has")
	return cmd
}

func remove(env *cli.Env) *cobra.Command {
	var lost bool
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Go on without a witness",
		Long: `remove takes the witness out of the log. Both nodes must be up to date, and the
witness must answer: it is told first to give the log to nobody any more, as a node
that has not heard of the removal would still ask it. The log starts a new epoch.

With --lost it need not answer. You vouch that it never does again: its disk is
gone. If it may come back, put another one in its place: dyad witness add --replace.`,
		Example: "  dyad witness remove --reason \"the third site closes\"",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Change(cmd.Context(), projections.RemoveWitness{Lost: lost}, cli.ChangeOptions{})
		},
	}
	cmd.Flags().BoolVar(&lost, "lost", false, "it does not answer, and never will again")
	return cmd
}

func status(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "What each node sees at the witness",
		Long: `status lets every node ask the witness, and shows what stands there, how long the
answer took, and whether it agrees with the node's own log.`,
		Example: "  dyad witness status\n  dyad witness status -o wide",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.Answer(cmd.Context(), func(ctx context.Context) error {
				all, err := env.Client().Witnesses(ctx, api.ScopeCluster)
				if err != nil {
					return err
				}
				return statusTable.Print(env, all)
			})
		},
	}
}

var statusTable = cli.List[api.WitnessStatus]{
	Name:  func(s api.WitnessStatus) string { return "witness/" + s.Node },
	Empty: "no nodes",
	Columns: []cli.Column[api.WitnessStatus]{
		{Head: "NODE", Value: func(s api.WitnessStatus) string { return s.Node }},
		{Head: "WITNESS", Value: func(s api.WitnessStatus) string { return s.URL }},
		{Head: "STANDS", Value: func(s api.WitnessStatus) string {
			if s.Claim == nil {
				return ""
			}
			return s.Claim.String()
		}},
		{Head: "MATCHES", Value: func(s api.WitnessStatus) string { return cli.YesNo(s.Matches) }},
		{Head: "LATENCY", Right: true, Value: func(s api.WitnessStatus) string {
			if s.Latency == 0 {
				return ""
			}
			return s.Latency.Round(100 * time.Microsecond).String()
		}},
		{Head: "WHY", Value: func(s api.WitnessStatus) string { return s.Why }},
		{Head: "RELEASE", Wide: true, Value: func(s api.WitnessStatus) string { return s.Release }},
		{Head: "FINGERPRINT", Wide: true, Value: func(s api.WitnessStatus) string { return s.Fingerprint }},
	},
}
