package root

import (
	"runtime"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
)

func version(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "This program's release",
		Long:    "version prints the release of this program. dyad status prints that of the agents.",
		Example: "  dyad version\n  dyad version -o json",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": cli.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			switch env.Output {
			case cli.JSON, cli.YAML:
				return env.Document(v)
			case cli.Name:
				return env.Line("%s", cli.Version)
			}
			return env.Line("dyad %s (%s, %s)", v["version"], v["go"], v["platform"])
		},
	}
}

// shells are those that completion is generated for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func completion(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "A completion script for bash, zsh, fish or powershell",
		Long: `completion prints a script that completes commands, flags and the names of peers,
pools, services, switches and nodes, as the running agent knows them.`,
		Example: "  dyad completion bash > /etc/bash_completion.d/dyad",
		Args:    cli.Args(1, 1), ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(env.Out, true)
			case "zsh":
				return root.GenZshCompletion(env.Out)
			case "fish":
				return root.GenFishCompletion(env.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(env.Out)
			}
			return cli.Usage("dyad completion "+args[0], "there is no completion for that shell", "use one of: bash, zsh, fish, powershell")
		},
	}
}
