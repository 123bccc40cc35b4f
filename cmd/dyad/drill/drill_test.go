package drill

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"dyad/chaos"
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
	cases := []struct {
		args string
		code int
		want string // on stderr
	}{
		{"drill", cli.ExitUsage, "it needs a verb"},
		{"drill rum", cli.ExitUsage, "dyad drill run"},
		{"drill run", cli.ExitUsage, "it needs DRILL"},
		{"drill run meteor", cli.ExitUsage, "agent-stop, host-silent"},
		{"drill run host-silent --heal-after 0s", cli.ExitUsage, "heal-after"},
		{"drill run host-silent --heal-after 11m", cli.ExitUsage, "heal-after"},
		{"drill run host-silent --probe-hz 0", cli.ExitUsage, "probe-hz"},
		{"drill run host-silent --probe-hz 100000", cli.ExitUsage, "probe-hz"},
		{"drill run host-silent --flows -1", cli.ExitUsage, "flows"},
		{"drill run host-silent --node=", cli.ExitUsage, "--node"},
		{"drill run host-silent --address web", cli.ExitUsage, "not an IP address"},
		{"drill run host-silent --max-outage 20s --heal-after 20s", cli.ExitUsage, "the heal itself could keep the promise"},
		{"drill run host-silent --lab-dir " + empty, cli.ExitFailed, "dyad lab up"},
		{"drill hold --lab-dir " + empty + " --heal-after 2s", cli.ExitFailed, "dyad lab up"},
		{"drill hold --heal-after 1ms", cli.ExitUsage, "heal-after"},
	}
	for _, c := range cases {
		code, out, errs := dyad(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("dyad %s: exit %d, want %d with %q\nstdout %q\nstderr %q", c.args, code, c.code, c.want, out, errs)
		}
	}
}

func TestList(t *testing.T) {
	code, out, _ := dyad(t, "drill", "list")
	if code != 0 || !strings.Contains(out, "host-silent") || !strings.Contains(out, "outage ≤ 700ms, ≤ 0 lost at failback") {
		t.Errorf("exit %d\n%s", code, out)
	}
	var got struct{ Items []chaos.Scenario }
	code, out, _ = dyad(t, "drill", "list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || len(got.Items) != len(chaos.Scenarios()) {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	if code, out, _ = dyad(t, "drill", "list", "-o", "name"); code != 0 || out != "agent-crash\nagent-hang\nagent-stop\nhost-silent\nnode-hang\npulse-hang\n" {
		t.Errorf("exit %d\n%q", code, out)
	}
}
