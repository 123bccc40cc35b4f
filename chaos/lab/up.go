package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dyad/chaos/netlab"
	"dyad/projections"
)

// Options of [Up].
type Options struct {
	Dir string
	// Router is frr, bird or gobgp; empty chooses frr for root and gobgp for
	// anybody else.
	Router string
	// Binary is the dyad binary that plays every part.
	Binary string
	// Configure changes a node's configuration before it starts; nil leaves it as
	// it is.
	Configure Configure
	// Say is told each step as it begins; nil is silent.
	Say func(format string, args ...any)
	// Keep leaves a lab that did not come up as it is, for a look at it.
	Keep bool
}

const (
	// upLimit bounds bringing a lab up.
	upLimit = 3 * time.Minute
	// logTail is how many lines of a log an error shows.
	logTail = 15
)

// Up brings a lab up and returns when both nodes are ready. Its processes
// outlive the caller. If it fails, it takes down what it built, unless told to
// keep it.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	ctx, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{State{
		Version: stateVersion, Dir: dir, Prefix: PrefixFor(dir), Router: o.Router, Binary: o.Binary,
		Rootless: netlab.Rootless(), Created: time.Now(), Plan: netlab.DefaultPlan(),
	}}
	if l.Router == "" {
		l.Router = netlab.KindFRR
		if l.Rootless {
			l.Router = netlab.KindGoBGP
		}
	}
	if l.Rootless && l.Router == netlab.KindFRR {
		o.Say("router: FRR changes its user and group, which a user namespace does not allow; using the embedded router (%s) instead", netlab.KindGoBGP)
		l.Router = netlab.KindGoBGP
	}
	unlock, err := l.claim()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.build(ctx, o.Configure, o.Say); err != nil {
		err = fmt.Errorf("the lab did not come up: %w%s", err, l.logTails())
		if o.Keep {
			return nil, fmt.Errorf("%w\nit is left as it is; dyad lab down --dir %s removes it", err, dir)
		}
		return nil, errors.Join(err, l.down(context.WithoutCancel(ctx), func(string, ...any) {}))
	}
	return l, nil
}

// claim makes the directory ours: one lab lies in it, and one command changes
// it at a time.
func (l *Lab) claim() (unlock func(), err error) {
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w\n  try: --dir DIR with a directory you may write to", err)
	}
	unlock, err = Lock(filepath.Join(l.Dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("another lab command works on %s: %w", l.Dir, err)
	}
	if old, err := Open(l.Dir); err == nil {
		unlock()
		return nil, fmt.Errorf("a lab is up already in %s (router %s, since %s)\n  try: dyad lab status, or dyad lab down, or another --dir",
			l.Dir, old.Router, old.Created.Format(time.TimeOnly))
	} else if !errors.Is(err, ErrNoLab) {
		unlock()
		return nil, err
	}
	if left, err := netlab.Leftovers(l.Prefix); err != nil || len(left) > 0 {
		unlock()
		return nil, errors.Join(err, fmt.Errorf("a lab that did not end well left %s\n  try: dyad lab down --dir %s", strings.Join(left, ", "), l.Dir))
	}
	return unlock, nil
}

func (l *Lab) build(ctx context.Context, configure Configure, say func(string, ...any)) error {
	if err := l.save(); err != nil {
		return err
	}
	say("namespaces %s, %s, %s, %s", l.NS(netlab.NodeA), l.NS(netlab.NodeB), l.NS(netlab.Router), l.NS(netlab.Client))
	if err := netlab.Build(l.Plan.Topology(l.Prefix)); err != nil {
		return err
	}
	for _, d := range append(NodeNames(), netlab.Router) {
		if err := os.MkdirAll(filepath.Join(l.Dir, d), 0o755); err != nil {
			return fmt.Errorf("make the directory of %s: %w", d, err)
		}
	}
	say("router: %s, AS %d at %s, hold time %d s", l.Router, l.Plan.RouterASN, l.Plan.RouterPeer, l.Plan.HoldTime)
	r, err := l.RouterControl()
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	if err := l.startNodes(ctx, configure, say); err != nil {
		return err
	}
	l.Ready = true
	return l.save()
}

func (l *Lab) startNodes(ctx context.Context, configure Configure, say func(string, ...any)) error {
	a, _ := l.Node(netlab.NodeA)
	b, _ := l.Node(netlab.NodeB)
	for _, n := range []Node{a, b} {
		if err := l.writeConfig(n, configure); err != nil {
			return err
		}
		echo := exec.Command(l.Binary, "lab", "echo", "--name", n.Name, "--port", fmt.Sprint(l.Plan.EchoPort))
		if err := l.detach(n, echo, echoFile, "echo.log"); err != nil {
			return err
		}
	}
	say("node-a: dyad init --config %s", a.Config)
	if _, err := l.Exec(ctx, a.Name, l.Binary, "init", "--config", a.Config); err != nil {
		return err
	}
	if err := l.supervise(a, l.Binary); err != nil {
		return err
	}
	say("node-a: waiting until its log takes writes")
	if err := l.wait(ctx, "node-a to be ready alone", func() string { return l.aloneNotReady(ctx, a) }); err != nil {
		return err
	}
	token := filepath.Join(b.Dir, "token")
	say("node-a: dyad token create --out %s", token)
	if _, err := l.Exec(ctx, a.Name, l.Binary, "token", "create", "--out", token, "--reason", "the lab's second node"); err != nil {
		return err
	}
	address := l.Plan.ClusterAddr[netlab.NodeA].String()
	say("node-b: dyad join %s --token-file %s --config %s", address, token, b.Config)
	_, err := l.Exec(ctx, b.Name, l.Binary, "join", address, "--token-file", token, "--config", b.Config)
	if err = errors.Join(err, os.Remove(token)); err != nil {
		return err
	}
	if err := l.supervise(b, l.Binary); err != nil {
		return err
	}
	say("both nodes: waiting until they are a pair")
	return l.WaitPair(ctx)
}

func (l *Lab) supervise(n Node, binary string) error {
	return l.detach(n, exec.Command(binary, "lab", "supervise", "--dir", l.Dir, "--node", n.Name), superviseFile, "supervise.log")
}

func (l *Lab) detach(n Node, cmd *exec.Cmd, pidFile, log string) error {
	p, err := netlab.Detach(n.NS, cmd, filepath.Join(n.Dir, log))
	if err != nil {
		return err
	}
	if err := p.Save(filepath.Join(n.Dir, pidFile)); err != nil {
		return errors.Join(err, p.Stop(0))
	}
	return nil
}

// Exec runs a command inside a node's (or the router's, the client's)
// namespace and returns what it printed.
func (l *Lab) Exec(ctx context.Context, name string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(environment(), "DYAD_SOCKET="+filepath.Join(l.Dir, name, "dyad.sock"))
	cmd.WaitDelay = time.Second
	var out []byte
	err := netlab.Do(l.NS(name), func() error {
		var err error
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w\n%s", name, strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// wait polls until notYet says nothing; its last answer is the error's reason.
func (l *Lab) wait(ctx context.Context, what string, notYet func() string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		why := notYet()
		if why == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %s: %w", what, why, ctx.Err())
		case <-tick.C:
		}
	}
}

func (l *Lab) aloneNotReady(ctx context.Context, n Node) string {
	s, err := n.Client().Status(ctx)
	switch {
	case err != nil:
		return err.Error()
	case !s.Writable:
		return "its log takes no writes: " + s.Why
	}
	return ""
}

// WaitPair waits until each node's log takes writes, as one of a pair, and each
// holds the other for alive.
func (l *Lab) WaitPair(ctx context.Context) error {
	return l.wait(ctx, "the nodes to be a pair", func() string { return l.PairNotReady(ctx) })
}

// PairNotReady says why the nodes are no working pair now; empty if they are.
func (l *Lab) PairNotReady(ctx context.Context) string {
	for _, name := range NodeNames() {
		n, _ := l.Node(name)
		s, err := n.Client().Status(ctx)
		switch {
		case err != nil:
			why, _, _ := strings.Cut(err.Error(), "\n") // its advice is for an installation
			return why
		case !s.Writable:
			return name + ": its log takes no writes: " + s.Why
		case s.View.Nodes[Other(name)] != projections.Alive:
			return fmt.Sprintf("%s holds %s for %q", name, Other(name), s.View.Nodes[Other(name)])
		case s.View.Stance != projections.StanceNormal:
			return fmt.Sprintf("%s announces as %s: %s", name, s.View.Stance, s.View.Reason.Text)
		}
	}
	return ""
}

// logTails are the last lines of every log of the lab, for an error.
func (l *Lab) logTails() string {
	var b strings.Builder
	paths, _ := filepath.Glob(filepath.Join(l.Dir, "*", "*.log"))
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil || len(text) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		lines = lines[max(0, len(lines)-logTail):]
		fmt.Fprintf(&b, "\n--- %s\n%s", p, strings.Join(lines, "\n"))
	}
	return b.String()
}
