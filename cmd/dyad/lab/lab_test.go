package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
)

func dyad(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{
		In: strings.NewReader(""), Out: &out, Err: &errs, Now: time.Now,
		Getenv: func(string) string { return "" },
	}
	code = cli.Run(t.Context(), env, func(env *cli.Env) *cobra.Command {
		root := &cobra.Command{Use: "dyad"}
		env.AddGlobals(root)
		root.AddCommand(Commands(env)...)
		return root
	}, args)
	return code, out.String(), errs.String()
}

func TestBadInput(t *testing.T) {
	empty := t.TempDir()
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "state.json"), []byte(`{"version": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		args string
		code int
		want string // on stderr
	}{
		{"lab", cli.ExitUsage, "it needs a verb"},
		{"lab up now", cli.ExitUsage, "one argument too many"},
		{"lab up --nodes 3", cli.ExitUsage, "two nodes"},
		{"lab status --dir " + empty, cli.ExitFailed, "try: dyad lab up"},
		{"lab status --dir " + broken, cli.ExitFailed, "dyad lab down --dir " + broken},
		{"lab status --dir " + newer, cli.ExitFailed, "another release"},
		{"lab router-show --dir " + empty, cli.ExitFailed, "try: dyad lab up"},
		{"lab exec", cli.ExitUsage, "it needs NODE and COMMAND"},
		{"lab exec node-a", cli.ExitUsage, "it needs NODE and COMMAND"},
		{"lab exec node-a --", cli.ExitUsage, "a command to run"},
		{"lab exec --dir " + empty + " node-a -- true", cli.ExitFailed, "try: dyad lab up"},
		{"lab router --config " + filepath.Join(empty, "none"), cli.ExitFailed, "router's configuration"},
		{"lab router --config " + filepath.Join(broken, "state.json"), cli.ExitFailed, "router's configuration"},
		{"lab supervise --dir " + empty + " --node node-a", cli.ExitFailed, "try: dyad lab up"},
		{"lab echo --name " + strings.Repeat("x", 65), cli.ExitFailed, "at most 64"},
	}
	for _, c := range cases {
		code, out, errs := dyad(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("dyad %s: exit %d, want %d with %q\nstdout %q\nstderr %q", c.args, code, c.code, c.want, out, errs)
		}
	}
}

// Taking down what is not there is no failure.
func TestDownNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	if code, out, errs := dyad(t, "lab", "down", "--dir", dir); code != 0 || out != "no lab in "+dir+"\n" {
		t.Errorf("exit %d\nstdout %q\nstderr %q", code, out, errs)
	}
}
