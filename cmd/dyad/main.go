// Command dyad is the one binary: the agent, its children, and the operator's
// commands.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/root"
)

func main() {
	os.Exit(cli.Main(func(env *cli.Env) *cobra.Command { return root.New(env) }))
}
