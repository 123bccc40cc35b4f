// Package agent is "dyad agent", the process that runs on each node, and its child
// processes, "dyad store" and "dyad pulse".
package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/node"
	"dyad/cmd/dyad/cli"
	"dyad/failover/beat"
)

// Commands returns agent and its hidden children, store and pulse.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{agent(env), store(env), pulse()}
}

func agent(env *cli.Env) *cobra.Command {
	var file, level, format string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the node",
		Long: `agent runs this node until it gets SIGTERM or SIGINT. It then stops as planned:
the other node takes over first, so that no packet is lost, which takes about a
second and at most ten.

The node must have been prepared by dyad init or dyad join. The configuration is
described in docs/configuration.md; the environment goes over the file, and
flags over both.`,
		Example: "  dyad agent --config /etc/dyad/dyad.yaml",
		Args:    cli.Args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(file, env.Getenv)
			if err != nil {
				return cli.Usage("agent", err.Error(), "")
			}
			if level != "" {
				c.Log.Level = level
			}
			if format != "" {
				c.Log.Format = format
			}
			if err := c.Finish(); err != nil {
				return cli.Usage("agent", err.Error(), "")
			}
			return node.Run(cmd.Context(), c, node.Options{Version: cli.Version, Log: logger(env.Err, c.Log)})
		},
	}
	cmd.Flags().StringVar(&file, "config", config.DefaultPath, "configuration file")
	cmd.Flags().StringVar(&level, "log-level", "", "debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "", "text or json")
	return cmd
}

func logger(w io.Writer, c config.Log) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(strings.ToUpper(c.Level))) // checked by config
	o := &slog.HandlerOptions{Level: l}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func store(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:                "store",
		Short:              "The embedded store, started by the agent",
		Long:               "store is the agent's child process. It reads its configuration from standard input and ends with the agent.",
		Example:            "  dyad agent",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			// SIGINT at a terminal reaches the whole process group; the agent decides
			// when the store stops.
			signal.Ignore(os.Interrupt, syscall.SIGHUP)
			err := etcdnode.ChildMain(context.Background(), args, env.In)
			if err == nil || errors.Is(err, etcdnode.ErrOrphaned) {
				return nil
			}
			return err
		},
	}
}

func pulse() *cobra.Command {
	return &cobra.Command{
		Use:     "pulse",
		Short:   "The heartbeat, started by the agent",
		Long:    "pulse is the agent's child process that sends and hears heartbeats. It is told what to do on standard input and ends with the agent.",
		Example: "  dyad agent",
		Args:    cli.Args(0, 0),
		Hidden:  true,
		RunE: func(*cobra.Command, []string) error {
			// The agent decides when the pulse stops, whoever else is told to.
			signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGTERM)
			return beat.ChildMain(os.Stdin, os.Stdout)
		},
	}
}
