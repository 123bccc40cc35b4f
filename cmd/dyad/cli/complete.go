package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/eventlog"
)

// completeBound bounds how long a completion waits for the agent.
const completeBound = 2 * time.Second

// Names lists the names of a noun, as the agent knows them.
type Names func(context.Context, *api.Client) ([]string, error)

func collect[T any](list []T, err error, name func(T) string) ([]string, error) {
	var out []string
	for _, v := range list {
		out = append(out, name(v))
	}
	return out, err
}

// The nouns.
var (
	PeerNames Names = func(ctx context.Context, c *api.Client) ([]string, error) {
		l, err := c.Peers(ctx)
		return collect(l, err, func(p eventlog.Peer) string { return p.Address.String() })
	}
	PoolNames Names = func(ctx context.Context, c *api.Client) ([]string, error) {
		l, err := c.Pools(ctx)
		return collect(l, err, func(p api.PoolView) string { return p.Name })
	}
	ServiceNames Names = func(ctx context.Context, c *api.Client) ([]string, error) {
		l, err := c.Services(ctx)
		return collect(l, err, func(s eventlog.Service) string { return s.Name })
	}
	SwitchNames Names = func(ctx context.Context, c *api.Client) ([]string, error) {
		l, err := c.Switches(ctx)
		return collect(l, err, func(s api.SwitchView) string { return s.Name })
	}
	NodeNames Names = func(ctx context.Context, c *api.Client) ([]string, error) {
		l, err := c.Nodes(ctx)
		return collect(l, err, func(n eventlog.Node) string { return n.Name })
	}
	AddressNames Names = func(ctx context.Context, c *api.Client) ([]string, error) {
		l, err := c.Services(ctx)
		var out []string
		for _, s := range l {
			for _, a := range s.Addresses {
				out = append(out, a.String())
			}
		}
		return out, err
	}
)

// Complete completes the first argument with names from the live agent.
func (e *Env) Complete(names Names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return e.live(cmd, names)
	}
}

// CompleteFlag completes a flag's value with names from the live agent.
func (e *Env) CompleteFlag(cmd *cobra.Command, flag string, names Names) {
	// Registering only fails for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return e.live(cmd, names)
	})
}

func (e *Env) live(cmd *cobra.Command, names Names) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeBound)
	defer cancel()
	out, err := names(ctx, e.Client())
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil, cobra.ShellCompDirectiveError | cobra.ShellCompDirectiveNoFileComp
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// CompleteWords completes a flag's value with fixed words.
func CompleteWords(cmd *cobra.Command, flag string, words ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails only without the flag
}
