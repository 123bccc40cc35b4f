// Package setup is "dyad init" and "dyad join", which prepare a node.
package setup

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/node"
	"dyad/cmd/dyad/cli"
)

// Commands returns init and join.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{initCommand(env), join(env)}
}

func load(env *cli.Env, what, file string) (config.Config, error) {
	c, err := config.Load(file, env.Getenv)
	if err != nil {
		return c, cli.Usage(what, err.Error(), "")
	}
	return c, nil
}

func initCommand(env *cli.Env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make this node the first of a new cluster",
		Long: `init prepares the data directory of this node: its identity, with the
cluster's certificate authority. It changes nothing outside that directory, and
refuses one that is in use. With store.endpoints in the configuration the log lies in
that etcd, which must answer, and not in a store of this node's own.`,
		Example: "  dyad init\n  dyad init --config ./dyad.yaml",
		Args:    cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(env, "init", file)
			if err != nil {
				return err
			}
			s, err := node.Init(cmd.Context(), c, cli.Version)
			if err != nil {
				return err
			}
			return show(env, c, s, "dyad agent, or systemctl start dyad; then dyad token create, and on the other node: dyad join "+
				c.Address.String()+" --token TOKEN")
		},
	}
	cmd.Flags().StringVar(&file, "config", config.DefaultPath, "configuration file")
	return cmd
}

func join(env *cli.Env) *cobra.Command {
	var file, token, tokenFile string
	var voter bool
	cmd := &cobra.Command{
		Use:   "join ADDRESS",
		Short: "Make this node the second of a cluster",
		Long: `join asks the agent at ADDRESS to admit this node, and prepares its data
directory. ADDRESS is the other node's cluster address, with :PORT if its API is
not at this node's own API port. The token is what dyad token create printed
there; --token-file or DYAD_TOKEN keep it out of the list of processes. If the
join breaks off, repeat it with the same token. Start the agent afterwards: its
store learns the log and becomes a voter by itself. A cluster with an external store
takes only nodes that have the same store: section in their configuration.

With --voter-only this machine becomes no node: it holds a third vote in the log of a
pair, so that any two of the three can write, and nothing else. Both nodes must be
PAIR and writable, and have no witness.`,
		Example: "  dyad join 192.168.0.1 --token-file ./token\n  dyad join 192.168.0.1 --token TOKEN\n  dyad join 192.168.0.1 --voter-only --token-file ./token",
		Args:    cli.Args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(env, "join", file)
			if err != nil {
				return err
			}
			word, err := tokenFrom(env, token, tokenFile, args[0])
			if err != nil {
				return err
			}
			s, err := node.Join(cmd.Context(), c, cli.WithPort(args[0], c.Ports.API), word, cli.Version, voter)
			if err != nil {
				return err
			}
			return show(env, c, s, "dyad agent, or systemctl start dyad")
		},
	}
	cmd.Flags().StringVar(&file, "config", config.DefaultPath, "configuration file")
	cmd.Flags().BoolVar(&voter, "voter-only", false, "be no node, and only hold the third vote of two")
	cmd.Flags().StringVar(&token, "token", "", "the `TOKEN` (DYAD_TOKEN)")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "read the token from `FILE`; - is standard input")
	return cmd
}

// maxToken bounds what is read as a token, in bytes.
const maxToken = 4096

// tokenFrom finds the token: in the flag, the file, or the environment.
func tokenFrom(env *cli.Env, token, file, address string) (string, error) {
	switch {
	case token != "" && file != "":
		return "", cli.Usage("join", "--token and --token-file exclude each other", "leave one out")
	case token != "":
		return token, nil
	case file == "" && env.Getenv("DYAD_TOKEN") != "":
		return env.Getenv("DYAD_TOKEN"), nil
	case file == "":
		return "", cli.Usage("join", "a token is needed", "dyad token create on the other node, then dyad join "+address+" --token TOKEN")
	}
	in := env.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", cli.Usage("join", err.Error(), "dyad token create --out FILE on the other node, and copy the file")
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxToken))
	return strings.TrimSpace(string(b)), err
}

func show(env *cli.Env, c config.Config, s etcdnode.State, next string) error {
	err := env.Show(s, s.Node, []cli.Field{
		{Name: "node", Value: s.Node},
		{Name: "cluster", Value: s.Cluster},
		{Name: "mode", Value: string(s.Mode)},
		{Name: "data", Value: c.DataDir},
		{Name: "members", Value: fmt.Sprint(len(s.Members))},
	})
	env.Note("next: %s", next)
	return err
}
