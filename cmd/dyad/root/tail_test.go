package root

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
	"dyad/projections"
)

// A tail begins with the newest events, goes on with what comes, once each, and
// ends well when it is interrupted.
func TestTailFollowsTheLog(t *testing.T) {
	f := newFake()
	socket := filepath.Join(t.TempDir(), "a.sock")
	_, stop, err := f.serve(socket, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	in, out := io.Pipe()
	env := &cli.Env{
		In: strings.NewReader(""), Out: out, Err: io.Discard, Now: time.Now,
		Getenv: func(k string) string { return map[string]string{"DYAD_SOCKET": socket}[k] },
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, env, func(e *cli.Env) *cobra.Command { return New(e) }, []string{"log", "tail", "--last", "2", "--type", "switch.,pool."})
		_ = out.Close() // ends the scanner below
	}()
	lines := bufio.NewScanner(in)
	want := []string{"switch vSwitch1 declared", "switch vSwitch2 declared", "pool web added"}
	for i, w := range want {
		if i == 2 {
			r, err := eventlog.ParseRange("203.0.113.0/28")
			if err != nil {
				t.Fatal(err)
			}
			root := api.Caller{Actor: eventlog.Actor{Name: "root", Auth: "unix"}}
			if _, err := f.do(ctx, root, api.Request{}, projections.SetPool{Name: "web", Ranges: []eventlog.Range{r}}); err != nil {
				t.Fatal(err)
			}
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), w) {
			t.Fatalf("line %d is %q, want %q", i+1, lines.Text(), w)
		}
	}
	cancel()
	if lines.Scan() {
		t.Errorf("one more line: %q", lines.Text())
	}
	if code := <-ended; code != cli.ExitOK {
		t.Errorf("an interrupted tail ends with %d", code)
	}
}
