package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs the command that build makes, with the process's arguments, and
// returns the exit code. SIGINT and SIGTERM end the command's context.
func Main(build func(*Env) *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return Run(ctx, NewEnv(), build, os.Args[1:])
}

// Run runs one command line in env and returns the exit code.
func Run(ctx context.Context, env *Env, build func(*Env) *cobra.Command, args []string) int {
	root := build(env)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usage(cmd.CommandPath(), plain(err), cmd.CommandPath()+" --help")
	})
	defer env.Close()
	err := root.ExecuteContext(ctx)
	// Whoever ends a running answer with ctrl-C has had it.
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = &ExitError{Code: ExitFailed}
	}
	report(env.Err, err)
	return ExitCode(err)
}

func plain(err error) string {
	s := strings.TrimSuffix(err.Error(), ", see --help")
	return strings.TrimSpace(s)
}

func report(w io.Writer, err error) {
	var exit *ExitError
	if err == nil || errors.As(err, &exit) && exit.Err == nil {
		return
	}
	// Nothing more can be said if stderr is closed.
	_, _ = fmt.Fprintln(w, "dyad: "+err.Error())
}
