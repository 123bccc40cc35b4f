package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dyad/chaos/demo"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/chaos/netlab/gobgprouter"
	"dyad/chaos/probe"
	"dyad/cmd/dyad/cli"
)

// The commands of this file are the parts that a lab is made of; no operator
// types them.

func supervise() *cobra.Command {
	var dir, node string
	c := &cobra.Command{
		Use: "supervise", Hidden: true, Short: "Keep a node's agent running",
		Long: "supervise is started by dyad lab up inside a node.", Example: "  dyad lab supervise --dir DIR --node node-a",
		Args: cli.Args(0, 0),
	}
	dirFlag(c, &dir)
	c.Flags().StringVar(&node, "node", "", "the node's `NAME`")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := lab.Open(dir)
		if err != nil {
			return err
		}
		n, err := l.Node(node)
		if err != nil {
			return err
		}
		// The supervisor runs agents of its own kind: the two nodes of a lab may
		// run different releases.
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		return lab.Supervise(cmd.Context(), n, binary, logger(cmd))
	}
	return c
}

func logger(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
}

func echo() *cobra.Command {
	var name string
	var port uint16
	c := &cobra.Command{
		Use: "echo", Hidden: true, Short: "Answer probes on every address",
		Long: "echo is started by dyad lab up inside a node.", Example: "  dyad lab echo --name node-a --port 7007",
		Args: cli.Args(0, 0),
	}
	c.Flags().StringVar(&name, "name", "", "`NAME` added to each answer")
	c.Flags().Uint16Var(&port, "port", netlab.DefaultPlan().EchoPort, "UDP `PORT`")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return probe.Echo(cmd.Context(), port, name) }
	return c
}

func router() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "router", Hidden: true, Short: "The embedded BGP router",
		Long: "router is started by dyad lab up --router gobgp inside the router's namespace.", Example: "  dyad lab router --config FILE",
		Args: cli.Args(0, 0),
	}
	c.Flags().StringVar(&path, "config", "", "the router's configuration `FILE`")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the router's configuration: %w", err)
		}
		var rc netlab.RouterConfig
		if err := json.Unmarshal(b, &rc); err != nil {
			return fmt.Errorf("read the router's configuration %s: %w", path, err)
		}
		g := gobgprouter.Config{ASN: rc.ASN, RouterID: rc.RouterID, HoldTime: rc.HoldTime, Log: logger(cmd)}
		for _, p := range rc.Peers {
			g.Peers = append(g.Peers, gobgprouter.Peer{Address: p.Address, ASN: p.ASN})
		}
		r, err := gobgprouter.Start(cmd.Context(), g)
		if err != nil {
			return err
		}
		return errors.Join(r.Serve(cmd.Context(), rc.Socket()), r.Close(context.WithoutCancel(cmd.Context())))
	}
	return c
}

// demoLimit bounds the whole demo.
const demoLimit = 10 * time.Minute

func demonstrate() *cobra.Command {
	o := demo.Options{}
	c := &cobra.Command{
		Use: "demo", Hidden: true, Short: "Show a failover from beginning to end",
		Long:    "demo is what make demo runs: a lab, the operator's commands, a death under traffic, and the lab gone again.",
		Example: "  dyad lab demo --router gobgp --report build/demo/report.json",
		Args:    cli.Args(0, 0),
	}
	c.Flags().StringVar(&o.Router, "router", "", "the router's `KIND`: frr, bird or gobgp")
	c.Flags().StringVar(&o.Report, "report", "build/demo/report.json", "`FILE` for the report")
	c.Flags().StringVar(&o.Dir, "dir", demo.Dir(), "the lab's `DIR`")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkRouter(o.Router, netlab.KindFRR, netlab.KindBIRD, netlab.KindGoBGP); err != nil {
			return err
		}
		if done, err := entered(cmd, o.Dir); done || err != nil {
			return err
		}
		// SIGHUP too: a closed terminal must not leave a lab behind.
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
		defer stop()
		ctx, cancel := context.WithTimeout(ctx, demoLimit)
		defer cancel()
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if o.Report, err = filepath.Abs(o.Report); err != nil {
			return err
		}
		o.Out = cmd.OutOrStdout()
		_, err = demo.Run(ctx, o)
		if errors.Is(err, demo.ErrNotBack) {
			return &cli.ExitError{Code: cli.ExitPromise, Err: err}
		}
		return err
	}
	return c
}
