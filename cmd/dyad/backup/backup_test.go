package backup

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
	"dyad/eventlog/segment"
)

// agent is as much of one as a backup asks for.
type agent struct {
	api.Backend
	events []eventlog.Envelope
	mode   string
}

func (a *agent) Status(context.Context) api.Status {
	return api.Status{Node: "node-a", Cluster: "c1", Mode: a.mode, Head: eventlog.HeadOf(a.events[len(a.events)-1])}
}

// Segment gives three events at a time.
func (a *agent) Segment(_ context.Context, first, upTo eventlog.Seq) ([]byte, error) {
	var prev eventlog.Head
	if first > 1 {
		prev = eventlog.HeadOf(a.events[first-2])
	}
	b, _, err := segment.Marshal("c1", prev, a.events[first-1:min(first+2, upTo)])
	return b, err
}

// place is a node's file system, and its agent.
type place struct {
	t   *testing.T
	dir string
	a   *agent
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir(), a: &agent{mode: "PAIR"}}
	var head eventlog.Head
	for i := range 7 {
		e, err := eventlog.Seal(head, 1, uint64(i+1), time.Unix(1_700_000_000, 0), eventlog.Draft{ID: fmt.Sprint(i), Type: eventlog.TypeStoreUp, Stream: "s"})
		if err != nil {
			t.Fatal(err)
		}
		head = eventlog.HeadOf(e)
		p.a.events = append(p.a.events, e)
	}
	p.put("data/node.state", `{"version": 1, "cluster": "c1", "node": "node-a", "mode": "PAIR", "epoch": 1, "members": {}}`)
	p.put("data/pki/ca.key", "hush hush")
	p.put("pass", "correct horse battery staple\n")
	for name, node := range map[string]string{"dyad.yaml": "node-a", "other.yaml": "node-x"} {
		p.put(name, fmt.Sprintf("node: %s\naddress: 192.168.0.1\ndataDir: %s\n", node, filepath.Join(p.dir, "data")))
	}
	ln, err := api.ListenUnix(filepath.Join(p.dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = api.ServeUnix(ctx, ln, api.Access{}, api.NewHandler(p.a, api.HandlerOptions{}), slog.New(slog.DiscardHandler))
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

func (p *place) put(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// run runs a command line, in which @ is the directory, and wants an exit code
// and a text in what was printed.
func (p *place) run(code int, says, line string) string {
	p.t.Helper()
	var out, errs bytes.Buffer
	env := &cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
	got := cli.Run(p.t.Context(), env, func(env *cli.Env) *cobra.Command {
		root := &cobra.Command{Use: "dyad"}
		env.AddGlobals(root)
		root.AddCommand(Commands(env)...)
		return root
	}, strings.Fields(strings.ReplaceAll("--socket @/s "+line, "@", p.dir)))
	all := out.String() + errs.String()
	if got != code || !strings.Contains(all, says) {
		p.t.Errorf("dyad %s\nexits with %d and says\n%s\nwant %d and %q", line, got, all, code, says)
	}
	if code != 0 && !strings.Contains(errs.String(), "\n  try: ") {
		p.t.Errorf("dyad %s\nfails without saying what to try:\n%s", line, errs.String())
	}
	return out.String()
}

func TestBackupCommands(t *testing.T) {
	p := newPlace(t)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	p.put("key", key.String()+"\n")
	p.put("empty", "\n")
	p.run(2, "would not be encrypted", "backup --config @/dyad.yaml @/b")
	p.run(2, "no such file", "backup --config @/dyad.yaml --passphrase-file @/missing @/b")
	p.run(2, "empty line", "backup --config @/dyad.yaml --passphrase-file @/empty @/b")
	p.run(2, "age1", "backup --config @/dyad.yaml --recipient nonsense @/b")
	p.run(2, "exclude each other", "backup --config @/dyad.yaml --passphrase-file @/pass --recipient x @/b")
	p.run(2, "does not exist", "backup --config @/missing.yaml --without-secrets @/b")
	p.put("other/node.state", `{"version": 1, "cluster": "c1", "node": "node-x", "mode": "PAIR", "epoch": 1, "members": {}}`)
	p.put("wrong.yaml", "node: node-x\naddress: 192.168.0.1\ndataDir: "+p.dir+"/other\n")
	p.run(1, "the agent is node-a", "backup --config @/wrong.yaml --without-secrets @/b")
	p.run(1, "no such file", "backup --config @/dyad.yaml --without-secrets @/nowhere/b")

	p.run(0, "keys are not in it", "backup --config @/dyad.yaml --without-secrets @/plain")
	if st, err := os.Stat(filepath.Join(p.dir, "plain")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	p.run(1, "--force", "backup --config @/dyad.yaml --without-secrets @/plain")
	p.run(0, "7, up to 7", "backup --config @/dyad.yaml --without-secrets --force @/plain")
	p.run(0, "7, up to 7", "backup inspect @/plain")
	if out := p.run(0, "7 events, up to 7", "backup --config @/dyad.yaml --without-secrets -"); !strings.HasPrefix(out, "dyad backup 1\n") {
		t.Errorf("to standard output: %.20q", out)
	}
	p.a.mode = "SUSPENDED"
	p.run(0, "SUSPENDED: the other node may have newer events", "backup --config @/dyad.yaml --without-secrets @/suspended")

	p.run(0, "Secrets       yes", "backup --config @/dyad.yaml --recipient "+key.Recipient().String()+" @/b")
	if b, err := os.ReadFile(filepath.Join(p.dir, "b")); err != nil || bytes.Contains(b, []byte("hush")) {
		t.Errorf("the key is in the file for all to read (%v)", err)
	}
	p.run(0, "secrets/pki/ca.key", "backup inspect --identity @/key @/b -o json")
	p.run(1, "neither passphrase nor key", "backup inspect @/b")
	p.run(0, "Secrets       no", "backup --config @/dyad.yaml --without-secrets --recipient "+key.Recipient().String()+" @/c")
	p.run(1, "no backup of dyad", "backup inspect @/dyad.yaml")
	p.run(2, "no such file", "backup inspect @/nowhere")
	p.run(0, "Encrypted     yes", "backup --config @/dyad.yaml --passphrase-file @/pass @/d")
	p.run(0, "Encrypted     yes", "backup inspect --passphrase-file @/pass @/d")
	p.run(1, "not the one it was encrypted with", "backup inspect --identity @/key @/d")

	p.run(1, "belongs to node-a", "restore --config @/dyad.yaml @/plain")
	p.run(1, "--node node-a", "restore --config @/other.yaml @/plain")
	p.run(2, "does not exist", "restore --config @/missing.yaml @/plain")
	p.run(4, "does not answer", "backup --config @/dyad.yaml --without-secrets @/e --socket @/nobody")
	for _, left := range []string{"e", "nowhere"} {
		if _, err := os.Lstat(filepath.Join(p.dir, left)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
	if hidden, err := filepath.Glob(filepath.Join(p.dir, ".*")); err != nil || len(hidden) > 0 {
		t.Errorf("left beside: %v %v", hidden, err)
	}
}
