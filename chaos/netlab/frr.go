package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	frrBinDir    = "/usr/lib/frr"
	frrConfigDir = "/etc/frr"
	frrRunDir    = "/var/run/frr"
)

// Names inside FRR's configuration.
const (
	frrBFDProfile = "lab"
	frrOutMap     = "out"
)

// routerGrace is how long a router may take to end by itself.
const routerGrace = 5 * time.Second

// FRRInstalled says what is missing to run FRR, nil if nothing is.
func FRRInstalled() error {
	for _, p := range []string{frrBinDir + "/zebra", frrBinDir + "/bgpd"} {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("FRR is not installed (%w); try: dyad lab deps, or use the embedded router: --router gobgp", err)
		}
	}
	if _, err := exec.LookPath("vtysh"); err != nil {
		return fmt.Errorf("FRR's vtysh is not installed (%w); try: dyad lab deps, or --router gobgp", err)
	}
	return nil
}

// frr runs zebra and bgpd, kept apart from any other FRR of the host by its
// path space, which is named as the namespace is.
type frr struct{ c RouterConfig }

func (f *frr) Kind() string { return KindFRR }

func (f *frr) config() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("frr defaults traditional")
	p("hostname %s", f.c.NS)
	if d := f.c.BFD; d != nil {
		ms := d.Interval.Milliseconds()
		p("bfd")
		p(" profile %s", frrBFDProfile)
		p("  transmit-interval %d", ms)
		p("  receive-interval %d", ms)
		p("  detect-multiplier %d", d.Multiplier)
		p(" exit")
		p("exit")
	}
	if len(f.c.Announce) > 0 {
		p("route-map %s permit 10", frrOutMap)
		p(" set metric %d", f.c.MED)
		p("exit")
	}
	p("router bgp %d", f.c.ASN)
	p(" bgp router-id %s", f.c.RouterID)
	p(" no bgp ebgp-requires-policy")
	if len(f.c.Announce) > 0 {
		p(" no bgp network import-check")
	}
	p(" no bgp default ipv4-unicast")
	p(" bgp bestpath as-path multipath-relax")
	p(" timers bgp %d %d", f.c.HoldTime/3, f.c.HoldTime)
	for _, n := range f.c.Peers {
		p(" neighbor %s remote-as %d", n.Address, n.ASN)
		// The router retries soon: a lab should not wait for its connect timer.
		p(" neighbor %s timers connect 1", n.Address)
		p(" neighbor %s advertisement-interval 0", n.Address)
		if f.c.BFD != nil {
			p(" neighbor %s bfd", n.Address)
			p(" neighbor %s bfd profile %s", n.Address, frrBFDProfile)
		}
	}
	f.families(p)
	p("exit")
	return b.String()
}

// families writes what each address family has.
func (f *frr) families(p func(string, ...any)) {
	for _, family := range []string{"ipv4", "ipv6"} {
		p(" address-family %s unicast", family)
		for _, a := range f.c.Announce {
			if a.Addr().Is4() == (family == "ipv4") {
				p("  network %s", a)
			}
		}
		for _, n := range f.c.Peers {
			if n.Address.Is6() && family == "ipv4" {
				continue
			}
			p("  neighbor %s activate", n.Address)
			if len(f.c.Announce) > 0 {
				p("  neighbor %s route-map %s out", n.Address, frrOutMap)
			}
		}
		p("  maximum-paths 2")
		p(" exit-address-family")
	}
}

// daemons are those it needs, in the order they start.
func (f *frr) daemons() []string {
	if f.c.BFD != nil {
		return []string{"zebra", "bgpd", "bfdd"}
	}
	return []string{"zebra", "bgpd"}
}

func (f *frr) Start(ctx context.Context) error {
	if err := FRRInstalled(); err != nil {
		return err
	}
	if err := f.makeDirs(); err != nil {
		return err
	}
	for _, d := range f.daemons() {
		// --log stdout would end with the terminal; a log file line in the
		// configuration that fails would fail the whole load.
		cmd := exec.CommandContext(ctx, filepath.Join(frrBinDir, d), "-N", f.c.NS, "-d", "-A", "127.0.0.1")
		if err := f.run(cmd); err != nil {
			return fmt.Errorf("start FRR's %s: %w", d, err)
		}
	}
	if err := f.run(exec.CommandContext(ctx, "vtysh", "-N", f.c.NS, "-b")); err != nil {
		return fmt.Errorf("load FRR's configuration: %w", err)
	}
	return nil
}

func (f *frr) makeDirs() error {
	uid, gid, err := ids("frr", "frr")
	if err != nil {
		return fmt.Errorf("FRR's user: %w", err)
	}
	_, vty, err := ids("frr", "frrvty")
	if err != nil {
		return fmt.Errorf("FRR's group: %w", err)
	}
	etc, run := filepath.Join(frrConfigDir, f.c.NS), filepath.Join(frrRunDir, f.c.NS)
	for dir, group := range map[string]int{etc: vty, run: gid} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make FRR's directory: %w", err)
		}
		if err := os.Chown(dir, uid, group); err != nil {
			return fmt.Errorf("FRR's directory: %w; in a user namespace FRR cannot run, use --router gobgp", err)
		}
	}
	for name, text := range map[string]string{
		"frr.conf":   f.config(),
		"vtysh.conf": "service integrated-vtysh-config\n",
	} {
		path := filepath.Join(etc, name)
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			return fmt.Errorf("write FRR's configuration: %w", err)
		}
		if err := os.Chown(path, uid, vty); err != nil {
			return fmt.Errorf("FRR's configuration: %w", err)
		}
	}
	return nil
}

func ids(name, group string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, 0, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(g.Gid)
	return uid, gid, errors.Join(err1, err2)
}

// run runs cmd inside the namespace and returns its output with its error.
func (f *frr) run(cmd *exec.Cmd) error {
	_, err := output(f.c.NS, cmd)
	return err
}

// output runs cmd inside the namespace and returns what it printed.
func output(ns string, cmd *exec.Cmd) (string, error) {
	var text []byte
	err := Do(ns, func() error {
		var err error
		text, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(text)))
	}
	return string(text), nil
}

func (f *frr) Stop(ctx context.Context) error {
	var errs []error
	for _, d := range slices.Backward(f.daemons()) {
		b, err := os.ReadFile(filepath.Join(frrRunDir, f.c.NS, d+".pid"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			continue
		}
		p, err := FindProcess(pid)
		if err != nil || !inNamespace(pid, f.c.NS) {
			continue // a number used again, by somebody else
		}
		errs = append(errs, p.Stop(routerGrace))
	}
	if Exists(f.c.NS) {
		errs = append(errs, flushRoutes(f.c.NS), flushNextHops(f.c.NS))
	}
	errs = append(errs, removeRouterDirs(f.c.NS))
	return errors.Join(errs...)
}

func inNamespace(pid int, ns string) bool {
	ps, err := processesIn(ns)
	if err != nil {
		return false
	}
	for _, p := range ps {
		if p.PID == pid {
			return true
		}
	}
	return false
}

// RemoveRouterDirs removes the directories that a lab's FRR has outside of the
// lab's own, of every namespace of the prefix.
func RemoveRouterDirs(prefix string) error {
	var errs []error
	for _, root := range []string{frrConfigDir, frrRunDir} {
		dirs, err := filepath.Glob(filepath.Join(root, prefix+"-*"))
		errs = append(errs, err)
		for _, d := range dirs {
			errs = append(errs, os.RemoveAll(d))
		}
	}
	return errors.Join(errs...)
}

// removeRouterDirs removes the directories that FRR has outside of the lab's.
func removeRouterDirs(ns string) error {
	return errors.Join(
		os.RemoveAll(filepath.Join(frrConfigDir, ns)),
		os.RemoveAll(filepath.Join(frrRunDir, ns)),
	)
}

func (f *frr) vtysh(ctx context.Context, command string) (string, error) {
	return output(f.c.NS, exec.CommandContext(ctx, "vtysh", "-N", f.c.NS, "-c", command))
}

func (f *frr) Sessions(ctx context.Context) (map[netip.Addr]string, error) {
	text, err := f.vtysh(ctx, "show bgp neighbors json")
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("read FRR's neighbours: %w", err)
	}
	out := map[netip.Addr]string{}
	for name, raw := range all {
		a, err := netip.ParseAddr(name)
		if err != nil {
			continue // not a neighbour but a figure of the whole
		}
		var n struct {
			State string `json:"bgpState"`
		}
		if err := json.Unmarshal(raw, &n); err != nil {
			return nil, fmt.Errorf("read FRR's neighbour %s: %w", a, err)
		}
		out[a] = n.State
	}
	return out, nil
}

func (f *frr) Show(ctx context.Context) (string, error) {
	return f.vtysh(ctx, "show bgp ipv4 unicast")
}

func (f *frr) ShowCommand() string {
	return fmt.Sprintf("vtysh -N %s -c 'show bgp ipv4 unicast'", f.c.NS)
}
