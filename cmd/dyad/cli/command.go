package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Group makes cmd a noun: it needs a verb, and suggests one for a typo.
func Group(cmd *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(verbs...)
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return Usage(cmd.CommandPath(), "it needs a verb: "+strings.Join(names(cmd), ", "), cmd.CommandPath()+" --help")
		}
		return Unknown(cmd, args[0])
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

func names(cmd *cobra.Command) []string {
	var out []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			out = append(out, c.Name())
		}
	}
	return out
}

// Unknown is the usage error for a word that is no command below cmd.
func Unknown(cmd *cobra.Command, word string) error {
	fix := cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		for i := range near {
			near[i] = cmd.CommandPath() + " " + near[i]
		}
		fix = strings.Join(near, ", or ")
	}
	return Usage(cmd.CommandPath(), fmt.Sprintf("there is no command %q", word), fix)
}

// Args wants between least and most arguments (most < 0: any number), named as
// in the command's use line.
func Args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return Usage(cmd.CommandPath(), fmt.Sprintf("it needs %s", argWords(cmd, least)), cmd.UseLine())
		case most >= 0 && len(args) > most:
			return Usage(cmd.CommandPath(), fmt.Sprintf("%q is one argument too many", args[most]), cmd.UseLine())
		}
		return nil
	}
}

// argWords are the capital words of the use line: what the arguments are.
func argWords(cmd *cobra.Command, least int) string {
	var out []string
	for _, w := range strings.Fields(cmd.Use)[1:] {
		if w == strings.ToUpper(w) && !strings.HasPrefix(w, "[") && !strings.HasPrefix(w, "-") {
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		return fmt.Sprintf("%d arguments", least)
	}
	return strings.Join(out, " and ")
}
