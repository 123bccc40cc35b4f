// Command dyad is the one binary: the agent, its children, and the operator's
// commands.
package main

import (
	"os"
	"slices"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/agent"
	"dyad/cmd/dyad/backup"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/drill"
	"dyad/cmd/dyad/lab"
	"dyad/cmd/dyad/root"
	"dyad/cmd/dyad/setup"
)

func main() { os.Exit(cli.Main(tree)) }

// tree is every command of the binary.
func tree(env *cli.Env) *cobra.Command {
	return root.New(env, slices.Concat(agent.Commands(env), setup.Commands(env), backup.Commands(env), lab.Commands(env), drill.Commands(env))...)
}
