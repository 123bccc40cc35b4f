// Package setup is "dyad init" and "dyad join", which prepare a node.
package setup

import (
	"fmt"
	"net"
	"os"
	"strconv"
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
		Long: `init prepares the data directory of this node: its identity, and the cluster key
that admits the second node. It changes nothing outside that directory, and
refuses one that is in use.`,
		Example: "  dyad init\n  dyad init --config ./dyad.yaml",
		Args:    cli.Args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			c, err := load(env, "init", file)
			if err != nil {
				return err
			}
			s, err := node.Init(c, cli.Version)
			if err != nil {
				return err
			}
			return show(env, c, s, "dyad agent, or systemctl start dyad; then on the other node: dyad join "+
				c.Address.String()+" --key-file FILE, with a copy of "+node.KeyPath(c))
		},
	}
	cmd.Flags().StringVar(&file, "config", config.DefaultPath, "configuration file")
	return cmd
}

func join(env *cli.Env) *cobra.Command {
	var file, keyFile string
	cmd := &cobra.Command{
		Use:   "join ADDRESS",
		Short: "Make this node the second of a cluster",
		Long: `join asks the agent at ADDRESS to admit this node, and prepares its data
directory. ADDRESS is the other node's cluster address, with :PORT if its API is
not at this node's own API port. The key is cluster.key from the other node's
data directory. Start the agent afterwards: its store learns the log and becomes
a voter by itself.`,
		Example: "  dyad join 192.168.0.1 --key-file ./cluster.key",
		Args:    cli.Args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(env, "join", file)
			if err != nil {
				return err
			}
			if keyFile == "" {
				return cli.Usage("join", "the cluster key is needed", "dyad join "+args[0]+" --key-file FILE, with cluster.key from the other node")
			}
			key, err := os.ReadFile(keyFile)
			if err != nil {
				return cli.Usage("join", err.Error(), "copy cluster.key from the other node's data directory")
			}
			address := args[0]
			if _, _, err := net.SplitHostPort(address); err != nil {
				address = net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(c.Ports.API))
			}
			s, err := node.Join(cmd.Context(), c, address, strings.TrimSpace(string(key)), cli.Version)
			if err != nil {
				return err
			}
			return show(env, c, s, "dyad agent, or systemctl start dyad")
		},
	}
	cmd.Flags().StringVar(&file, "config", config.DefaultPath, "configuration file")
	cmd.Flags().StringVar(&keyFile, "key-file", "", "the cluster key")
	return cmd
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
