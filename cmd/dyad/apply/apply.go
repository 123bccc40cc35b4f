// Package apply holds the command that makes the cluster as a file says.
package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/projections"
)

// Interface is what the log says these changes came through.
const Interface = "apply"

// Commands is the apply command.
func Commands(env *cli.Env) []*cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make the cluster as a file says, all or nothing",
		Long: `apply reads YAML documents (or JSON) and makes peers, pools, services and switches as
they say, in one change: either all of it happens or nothing. What is so already
stays; what the file does not mention is left alone.

  kind: Peer
  address: 10.126.77.125
  switch: vSwitch1
  peerASN: 64512
  selfASN: 64513
  holdTime: 15
  ---
  kind: Pool
  name: web
  ranges: [203.0.113.0/28]
  ---
  kind: Service
  name: shop
  pool: web
  check: http://127.0.0.1:8080/healthz
  ---
  kind: Switch
  name: vSwitch1
  compute: true

A Service also takes addresses, family, placement, prefer, checkInterval and
checkTimeout, a Pool switch and manual, a Switch storage and management. Unknown
fields are refused.`,
		Example: "  dyad apply -f cluster.yaml --dry-run\n  dyad apply -f - --reason \"rack 4\"",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), env, file)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the `FILE`; - is stdin")
	return []*cobra.Command{cmd}
}

func run(ctx context.Context, env *cli.Env, file string) error {
	if file == "" {
		return cli.Usage("dyad apply", "the file is missing", "dyad apply -f FILE, or -f - for stdin")
	}
	name, text, err := load(env, file)
	if err != nil {
		return err
	}
	items, err := Read(name, text)
	if err != nil {
		return err
	}
	switches, err := cli.Ask(ctx, env, env.Client().Switches)
	if err != nil {
		return err
	}
	slices.SortStableFunc(items, func(a, b Item) int { return cmp.Compare(a.spec.order(), b.spec.order()) })
	all := projections.Apply{}
	for _, it := range items {
		all.Commands = append(all.Commands, it.spec.command(switches))
	}
	return locate(env.Change(ctx, all, cli.ChangeOptions{Interface: Interface}), items)
}

// load reads a file, at most one byte more than it may hold.
func load(env *cli.Env, file string) (name, text string, err error) {
	in, name := env.In, "stdin"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", "", cli.Usage(file, "it can't be read: "+reason(err), "check the path, or use -f - for stdin")
		}
		defer func() { _ = f.Close() }() // it was only read
		in, name = f, file
	}
	b, err := io.ReadAll(io.LimitReader(in, MaxBytes+1))
	if err != nil {
		return "", "", cli.Usage(name, "it can't be read: "+reason(err), "check the path")
	}
	return name, string(b), nil
}

func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// locate puts the document's place into a refusal that names an item of the
// change: "item 2 (…)".
func locate(err error, items []Item) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	var n int
	if _, serr := fmt.Sscanf(e.What, "item %d ", &n); serr != nil || n < 1 || n > len(items) {
		return err
	}
	in := *e
	in.What = items[n-1].Where + e.What[len(fmt.Sprintf("item %d", n)):]
	return &in
}
