package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/hcs"
)

var rewrite = flag.Bool("rewrite", false, "write docs/cli.md")

func testTree() *cobra.Command {
	env := &cli.Env{
		In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &bytes.Buffer{},
		Getenv: func(string) string { return "" }, Now: time.Now,
	}
	return tree(env)
}

// each visits every command that users see.
func each(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			each(sub, visit)
		}
	}
}

const reference = "../../docs/cli.md"

// The reference is the command tree, written down.
func TestReferenceIsTheCommandTree(t *testing.T) {
	want := document(testTree())
	if *rewrite {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/cli.md is not the command tree; run: go test ./cmd/dyad -run Reference -rewrite")
	}
}

func document(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands\n\n<!-- Written by: go test ./cmd/dyad -run Reference -rewrite -->\n\n" + root.Long + "\n\n")
	b.WriteString("stdout is the answer, stderr everything else. A terminal gets relative times, a pipe RFC 3339. Exit codes:\n\n| code | meaning |\n|---|---|\n")
	for _, row := range []struct {
		code int
		what string
	}{
		{cli.ExitOK, "done"},
		{cli.ExitFailed, "failed"},
		{cli.ExitUsage, "usage: the command line or the input makes no sense"},
		{cli.ExitRefused, "refused by a rule"},
		{cli.ExitUnreachable, "no agent, no quorum, or not allowed"},
		{cli.ExitPromise, "a drill's promise was broken"},
		{cli.ExitDegraded, "`status --check` found something"},
		{cli.ExitNotConverged, "accepted, and not applied by every node in time"},
	} {
		fmt.Fprintf(&b, "| %d | %s |\n", row.code, row.what)
	}
	fmt.Fprintf(&b, "\nFlags of every command:\n\n```\n%s```\n", root.PersistentFlags().FlagUsages())
	each(root, func(c *cobra.Command) {
		if c == root {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n", c.CommandPath(), strings.TrimSuffix(c.Short, "."))
		if c.Runnable() && !c.HasSubCommands() {
			fmt.Fprintf(&b, "\n```\n%s\n```\n", c.UseLine())
		}
		fmt.Fprintf(&b, "\n%s\n", c.Long)
		if f := c.NonInheritedFlags(); f.HasAvailableFlags() {
			fmt.Fprintf(&b, "\n```\n%s```\n", f.FlagUsages())
		}
		if c.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", unindent(c.Example))
		}
	})
	return b.String()
}

func unindent(s string) string {
	lines := strings.Split(strings.Trim(s, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

func TestEveryCommandExplainsItself(t *testing.T) {
	root := testTree()
	each(root, func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" || c.Example == "" {
			t.Errorf("%s lacks a short text, a long one or an example", c.CommandPath())
		}
	})
}

var (
	inline   = regexp.MustCompile("`(dyad [^`]+)`")
	elided   = regexp.MustCompile(`…|\.\.\.`)
	brackets = strings.NewReplacer("[", " ", "]", " ", `\|`, " ")
)

// Every command that a document or an example shows exists, with its flags.
func TestShownCommandsExist(t *testing.T) {
	root := testTree()
	found := 0
	check := func(where, line string) {
		found++
		if err := exists(root, line); err != nil {
			t.Errorf("%s: %s: %v", where, line, err)
		}
	}
	each(root, func(c *cobra.Command) {
		for _, l := range strings.Split(c.Example, "\n") {
			if l = strings.TrimSpace(l); strings.HasPrefix(l, "dyad ") {
				check("example of "+c.CommandPath(), l)
			} else if l != "" {
				t.Errorf("example of %s: %q is no dyad command", c.CommandPath(), l)
			}
		}
	})
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(docs, "../../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range shown(string(b)) {
			check(filepath.Base(file), l)
		}
	}
	if found < 60 {
		t.Errorf("only %d commands were found; does the search still work?", found)
	}
}

// shown finds the commands in a document: in code blocks, and between backticks.
func shown(text string) []string {
	var out []string
	code := false
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "```") {
			code = !code
			continue
		}
		l = strings.TrimPrefix(strings.TrimSpace(l), "$ ")
		if code && strings.HasPrefix(l, "dyad ") && !strings.Contains(l, "[flags]") {
			out = append(out, l)
		}
		if !code {
			for _, m := range inline.FindAllStringSubmatch(l, -1) {
				out = append(out, m[1])
			}
		}
	}
	return out
}

// words splits a line as a shell would, up to a comment, a pipe or a redirection.
func words(line string) []string {
	var out []string
	var quote rune
	word, open := "", false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open || word != "" {
				if word == "|" || word == ">" || word == "&&" || strings.HasPrefix(word, "#") {
					return out
				}
				out = append(out, strings.TrimRight(word, ";"))
			}
			word, open = "", false
		default:
			word += string(r)
		}
	}
	return out
}

func exists(root *cobra.Command, line string) error {
	args := words(brackets.Replace(elided.ReplaceAllString(line, " ")))[1:]
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if cmd == root && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return fmt.Errorf("there is no command %q", args[0])
	}
	if cmd.Name() == "hcs" {
		for len(rest) > 0 && !strings.Contains(rest[0], "-Hcs") {
			rest = rest[1:] // dyad's own flags
		}
		if len(rest) == 0 || rest[0] == "Cmdlet" {
			return nil
		}
		_, err := hcs.Bind(rest)
		return err
	}
	value := false
	for _, a := range rest {
		switch {
		case a == "--":
			return nil
		case value:
			value = false
		case strings.HasPrefix(a, "-") && len(a) > 1:
			f, err := flagOf(cmd, a)
			if err != nil {
				return err
			}
			value = f.NoOptDefVal == "" && !strings.Contains(a, "=")
		case cmd.HasSubCommands() && !strings.Contains(cmd.Use, " "): // backup FILE has a verb beside it
			return fmt.Errorf("%s has no verb %q", cmd.CommandPath(), a)
		}
	}
	return nil
}

func flagOf(cmd *cobra.Command, word string) (*pflag.Flag, error) {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	cmd.InitDefaultHelpFlag()
	var f *pflag.Flag
	if strings.HasPrefix(word, "--") {
		f = cmd.Flag(name)
	} else {
		f = cmd.Flags().ShorthandLookup(name[:1])
		if f == nil {
			f = cmd.InheritedFlags().ShorthandLookup(name[:1])
		}
	}
	if f == nil {
		return nil, fmt.Errorf("%s has no flag %s", cmd.CommandPath(), word)
	}
	return f, nil
}

// The check above finds what it looks for.
func TestMissingCommandsAreFound(t *testing.T) {
	root := testTree()
	for _, line := range []string{
		"dyad per list", "dyad peer lst", "dyad peer list --colour", "dyad peer add 192.0.2.1 -x",
		"dyad hcs Set-HcsBGPPeer -PeerColour red", "dyad hcs Get-Nothing-Hcs",
	} {
		if exists(root, line) == nil {
			t.Errorf("%q passes as a command", line)
		}
	}
	for _, line := range []string{"dyad peer add 192.0.2.1 --peer-asn -1 -o json # why", "dyad apply -f -", "dyad lab exec node-b -- anything --goes"} {
		if err := exists(root, line); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}
