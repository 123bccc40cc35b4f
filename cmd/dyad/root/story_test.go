package root

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"dyad/cmd/dyad/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"dyad": func() {
			os.Exit(cli.Main(func(env *cli.Env) *cobra.Command { return New(env) }))
		},
	})
}

// running is a story's agent.
type running struct {
	fake *fake
	stop func()
}

// TestStories runs the program against an agent with real rules. Besides
// testscript's own, a story has the commands
//
//	exits CODE dyad ARG...   runs and wants the exit code
//	agent MODE               late, unavailable, broken, degraded, dead, well, gone,
//	                         orphaned (once: records what the other node had alone)
//	big FILE SIZE            makes a file of SIZE bytes
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			f := newFake()
			socket := filepath.Join(env.WorkDir, "a.sock")
			address, stop, err := f.serve(socket, filepath.Join(env.WorkDir, "data"))
			if err != nil {
				return err
			}
			r := &running{fake: f, stop: stop}
			env.Values["agent"] = r
			env.Defer(func() { r.stop() })
			env.Setenv("DYAD_SOCKET", socket)
			env.Setenv("AGENT", address)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("DYAD_DATA_DIR", filepath.Join(env.WorkDir, "nowhere"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "agent": setAgent, "big": bigFile,
		},
		UpdateScripts: os.Getenv("UPDATE_STORIES") != "",
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s exits with %d, not %d", strings.Join(args[1:], " "), got, want)
	}
	// Whatever fails says so in the one form.
	if stderr := ts.ReadFile("stderr"); got != 0 && (!strings.HasPrefix(stderr, "dyad: ") || !strings.Contains(stderr, "\n  try: ")) {
		ts.Fatalf("the error does not say what, why and what to try:\n%s", stderr)
	}
}

func setAgent(ts *testscript.TestScript, _ bool, args []string) {
	r := ts.Value("agent").(*running)
	switch args[0] {
	case "gone":
		r.stop()
		r.stop = func() {}
	case "orphaned":
		ts.Check(r.fake.orphan())
	case "well":
		r.fake.set("")
	default:
		r.fake.set(args[0])
	}
}

func bigFile(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	text := "kind: Pool\nname: web\nranges: [203.0.113.0/28]\n# "
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text+strings.Repeat("x", n-len(text))), 0o600))
}
