package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// Options of [Run].
type Options struct {
	Binary string // the dyad binary
	Router string // frr, bird or gobgp; empty chooses
	Dir    string // of the lab
	Report string // where report.json goes
	Out    io.Writer
}

// ErrNotBack means that traffic did not come back, or a promise was broken.
var ErrNotBack = errors.New("the demo did not keep its promise")

// healAfter is how long the node stays dead.
const healAfter = 8 * time.Second

// notBack is the outage after which the demo says that traffic did not come back.
// It shows a figure on whatever machine it runs; the bench holds it to a target.
const notBack = 5 * time.Second

// stepLimit bounds one command of the demo.
const stepLimit = 5 * time.Minute

// demo is a demo under way.
type demo struct {
	Options
	lab  *lab.Lab
	node lab.Node // whose agent the commands ask
}

// Run runs the demo. The lab is gone when it returns, also after an error, a
// panic, or the end of ctx.
func Run(ctx context.Context, o Options) (report chaos.Report, err error) {
	d := &demo{Options: o}
	d.printf("dyad demo: two nodes, a %s router, a client; one node will die under traffic\n", orDefault(o.Router))
	if had, err := lab.Down(ctx, o.Dir, nil); err != nil {
		return chaos.Report{}, err
	} else if had {
		d.printf("  removed what an earlier demo left in %s\n", o.Dir)
	}
	defer func() {
		// ctx may have ended: cleaning up must go on.
		if _, derr := lab.Down(context.WithoutCancel(ctx), o.Dir, nil); derr != nil {
			err = errors.Join(err, derr)
		} else {
			d.printf("  the lab is gone: namespaces, router and processes\n")
		}
	}()
	d.lab, err = lab.Up(ctx, lab.Options{
		Dir: o.Dir, Router: o.Router, Binary: o.Binary,
		Say: func(format string, args ...any) { d.printf("  "+format+"\n", args...) },
	})
	if err != nil {
		return chaos.Report{}, err
	}
	if d.node, err = d.lab.Node(netlab.NodeA); err != nil {
		return chaos.Report{}, err
	}
	for _, step := range []func(context.Context) error{d.session, d.services, d.death, d.story} {
		if err := step(ctx); err != nil {
			return chaos.Report{}, err
		}
	}
	return d.summary()
}

func orDefault(router string) string {
	if router == "" {
		return "software"
	}
	return router
}

func (d *demo) printf(format string, args ...any) { _, _ = fmt.Fprintf(d.Out, format, args...) }

func (d *demo) title(n int, text string) { d.printf("\n── %d. %s\n", n, text) }

// dyad runs one dyad command on node-a, shown before it runs.
func (d *demo) dyad(ctx context.Context, args ...string) error {
	return d.run(ctx, "dyad "+quote(args), d.Binary, args...)
}

func (d *demo) run(ctx context.Context, shown, path string, args ...string) error {
	d.printf("\n$ %s\n", shown)
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "DYAD_SOCKET="+d.node.Socket)
	cmd.Stdout, cmd.Stderr = d.Out, d.Out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s: %w", shown, err)
	}
	return nil
}

func (d *demo) all(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		if err := d.dyad(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}

// session is the appliance's documented session, with the lab's addresses.
func (d *demo) session(ctx context.Context) error {
	d.title(1, "The appliance's own commands, as its documentation shows them")
	d.printf("\n$ export DYAD_SOCKET=%s\n", d.node.Socket)
	p := d.lab.Plan
	set := func(hold string) []string {
		return []string{
			"hcs", "Set-HcsBGPPeer", "-PeerAddress", p.RouterPeer.String(), "-PeerAsn", fmt.Sprint(p.RouterASN),
			"-SelfAsn", fmt.Sprint(p.NodeASN), "-SwitchName", p.SwitchName, "-HoldTimeInSeconds", hold,
		}
	}
	get := []string{"hcs", "Get-HcsBGPPeers", "-SwitchName", p.SwitchName}
	if err := d.all(ctx, []string{"hcs", "Get-HcsExternalVirtualSwitch"}, set("15"), get); err != nil {
		return err
	}
	d.printf("\n  The router asks for 90 s. Set ours to 90 as well, so that the hold time cannot be what saves us:\n")
	return d.all(ctx, set("90"), get)
}

func (d *demo) services(ctx context.Context) error {
	d.title(2, "A pool, two services, and what the router makes of them")

	err := d.all(ctx,
		[]string{"pool", "add", "demo", d.lab.PoolPrefix().String()},
		[]string{"service", "add", "web", "--pool", "demo", "--prefer", netlab.NodeA},
		[]string{"service", "add", "dns", "--pool", "demo", "--prefer", netlab.NodeB},
	)
	if err != nil {
		return err
	}
	r, err := d.lab.RouterControl()
	if err != nil {
		return err
	}
	d.printf("\n  waiting for the router's sessions with both nodes …\n")
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := netlab.WaitEstablished(wait, r, d.lab.Plan.NodePeer[netlab.NodeA], d.lab.Plan.NodePeer[netlab.NodeB]); err != nil {
		return err
	}
	if err := d.all(ctx, []string{"status"}, []string{"announcement", "list"}); err != nil {
		return err
	}
	d.printf("\n$ %s\n", r.ShowCommand())
	text, err := r.Show(ctx)
	d.printf("%s\n", text)
	return err
}

func (d *demo) death(ctx context.Context) error {
	d.title(3, "node-b dies under traffic: packets dropped inside it, processes killed, no link goes down")
	return d.dyad(ctx, "drill", "run", string(chaos.FaultHostSilent), "--lab-dir", d.Dir, "--node", netlab.NodeB,
		"--heal-after", healAfter.String(), "--max-outage", notBack.String(), "--report", d.Report, "--reason", "show what a failover costs")
}

func (d *demo) story(ctx context.Context) error {
	d.title(4, "The node is back. Who did what, when, why")
	return d.all(ctx,
		[]string{"status"},
		[]string{"announcement", "list"},
		[]string{"log", "list"},
	)
}

// summary reads the report back and says it in one line.
func (d *demo) summary() (chaos.Report, error) {
	b, err := os.ReadFile(d.Report)
	if err != nil {
		return chaos.Report{}, fmt.Errorf("read the report: %w", err)
	}
	var r chaos.Report
	if err := json.Unmarshal(b, &r); err != nil {
		return chaos.Report{}, fmt.Errorf("read the report: %w", err)
	}
	d.printf("\n══ %s\n", Summary(r, d.Report))
	if len(r.Broken) > 0 {
		return r, fmt.Errorf("%w: %s", ErrNotBack, strings.Join(r.Broken, "; "))
	}
	return r, nil
}

// Summary is a drill's report in one line.
func Summary(r chaos.Report, path string) string {
	return fmt.Sprintf("%s died with hold time 90 s: worst outage %.0f ms of %d addresses (detect %.0f + decide %.1f + announce %.1f + router %.0f), %d probes lost at %d Hz, %d lost at failback. Report: %s",
		r.Node, r.OutageMS, len(r.Addresses), r.DetectMS, r.DecideMS, r.AnnounceMS, r.ConvergeMS,
		r.LostPackets, r.ProbeHz, r.FailbackLost, path)
}

// quote shows arguments as one would type them.
func quote(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		if strings.ContainsAny(a, " '\"$") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out[i] = a
	}
	return strings.Join(out, " ")
}

// Dir is where the demo's lab lies: beside a lab that is up.
func Dir() string { return filepath.Join(filepath.Dir(lab.DefaultDir()), "dyad-demo") }
