package netlab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// birdLog is BIRD's own log in RouterConfig.Dir.
const birdLog = "bird.log"

// bird runs BIRD 2.
type bird struct{ c RouterConfig }

func (b *bird) Kind() string { return KindBIRD }

func (b *bird) path(name string) string { return filepath.Join(b.c.Dir, name) }

func (b *bird) config() string {
	var s strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	p("router id %s;", b.c.RouterID)
	p("protocol device { scan time 1; }")
	p("log \"%s\" all;", b.path(birdLog))
	for _, family := range []string{"ipv4", "ipv6"} {
		// What it announces itself is on the host's loopback already.
		p("protocol kernel { merge paths on; %s { export where source = RTS_BGP; }; }", family)
	}
	if d := b.c.BFD; d != nil {
		p("protocol bfd { interface \"*\" { interval %d ms; multiplier %d; }; }", d.Interval.Milliseconds(), d.Multiplier)
	}
	export := map[bool]string{}
	for _, a := range b.c.Announce {
		export[a.Addr().Is4()] += fmt.Sprintf(" route %s blackhole;", a)
	}
	for is4, routes := range export {
		p("protocol static { %s;%s }", map[bool]string{true: "ipv4", false: "ipv6"}[is4], routes)
	}
	out := "none"
	if len(b.c.Announce) > 0 {
		out = fmt.Sprintf("filter { if source != RTS_STATIC then reject; bgp_med = %d; accept; }", b.c.MED)
	}
	for i, n := range b.c.Peers {
		p("protocol bgp peer%d {", i)
		p("  local as %d;", b.c.ASN)
		p("  neighbor %s as %d;", n.Address, n.ASN)
		p("  hold time %d;", b.c.HoldTime)
		p("  connect retry time 1;")
		// Else a node stays out for half a minute after an error.
		p("  error wait time 1,2; error forget time 1;")
		if b.c.BFD != nil {
			p("  bfd on; debug { states, events };")
		}
		p("  ipv4 { import all; export %s; };", out)
		p("  ipv6 { import all; export %s; };", out)
		p("}")
	}
	return s.String()
}

func (b *bird) Start(ctx context.Context) error {
	if _, err := exec.LookPath("bird"); err != nil {
		return fmt.Errorf("BIRD is not installed (%w); try: apt-get install -y bird2, or --router gobgp", err)
	}
	if err := os.WriteFile(b.path("bird.conf"), []byte(b.config()), 0o644); err != nil {
		return fmt.Errorf("write BIRD's configuration: %w", err)
	}
	cmd := exec.CommandContext(ctx, "bird", "-c", b.path("bird.conf"), "-s", b.path("bird.ctl"), "-P", b.path("bird.pid"))
	if _, err := output(b.c.NS, cmd); err != nil {
		return fmt.Errorf("start BIRD: %w", err)
	}
	return nil
}

func (b *bird) Stop(context.Context) error {
	var errs []error
	if text, err := os.ReadFile(b.path("bird.pid")); err == nil {
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if p, err := FindProcess(pid); err == nil && inNamespace(pid, b.c.NS) {
			errs = append(errs, p.Stop(routerGrace))
		}
	}
	if Exists(b.c.NS) {
		errs = append(errs, flushRoutes(b.c.NS))
	}
	return errors.Join(errs...)
}

func (b *bird) birdc(ctx context.Context, words ...string) (string, error) {
	return output(b.c.NS, exec.CommandContext(ctx, "birdc", append([]string{"-r", "-s", b.path("bird.ctl")}, words...)...))
}

func (b *bird) Sessions(ctx context.Context) (map[netip.Addr]string, error) {
	out := map[netip.Addr]string{}
	text, err := b.birdc(ctx, "show", "protocols")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		// Name  Proto  Table  State  Since  Info
		f := strings.Fields(line)
		if len(f) < 5 || f[1] != "BGP" {
			continue
		}
		i, err := strconv.Atoi(strings.TrimPrefix(f[0], "peer"))
		if err != nil || i < 0 || i >= len(b.c.Peers) {
			continue
		}
		out[b.c.Peers[i].Address] = strings.Join(f[5:], " ")
	}
	return out, nil
}

func (b *bird) Show(ctx context.Context) (string, error) {
	return b.birdc(ctx, "show", "route", "all")
}

func (b *bird) ShowCommand() string {
	return fmt.Sprintf("birdc -s %s show route all", b.path("bird.ctl"))
}
