package peers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
)

// vrrp is keepalived on both nodes: the router has a static route to the service
// by way of an address that VRRP moves.
type vrrp struct {
	stand
	advert   time.Duration
	realtime bool
	vip      netip.Prefix
	daemons  map[string]netlab.Process
}

// VRRP is keepalived with that interval between advertisements (VRRPv3 counts in
// hundredths of a second). With realtime it runs at real-time priority with its
// memory locked.
func VRRP(advert time.Duration, realtime bool, dir, binary string) System {
	name := fmt.Sprintf("keepalived-%dms", advert.Milliseconds())
	if realtime {
		name += "-realtime"
	}
	v := &vrrp{
		stand: newStand(name, dir, binary), advert: advert, realtime: realtime,
		vip: netip.MustParsePrefix("10.126.77.100/32"), daemons: map[string]netlab.Process{},
	}
	v.top.Routes = append(v.top.Routes, netlab.Route{NS: netlab.Router, Dst: v.host(), Via: v.vip.Addr()})
	return v
}

// vrrpPriority of each node. The higher it is, the shorter the skew time before a
// backup takes over (RFC 5798 section 6.1); with nopreempt it decides nothing else.
var vrrpPriority = map[string]int{netlab.NodeA: 249, netlab.NodeB: 250}

func (v *vrrp) config(node string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("global_defs {")
	p("  router_id %s", node)
	p("  vrrp_version 3")
	if v.realtime {
		p("  vrrp_rt_priority 50")
		p("  vrrp_no_swap")
	}
	p("}")
	p("vrrp_instance service {")
	p("  state BACKUP")
	p("  nopreempt")
	p("  interface %s", netlab.PortRouter)
	p("  virtual_router_id 51")
	p("  priority %d", vrrpPriority[node])
	p("  advert_int %.2f", v.advert.Seconds())
	p("  virtual_ipaddress {")
	p("    %s dev %s", v.vip, netlab.PortRouter)
	p("  }")
	p("}")
	return b.String()
}

// Files in which keepalived writes down its processes, below a node's directory.
const (
	vrrpMainPID  = "keepalived.pid"
	vrrpChildPID = "vrrp.pid"
)

func (v *vrrp) log(node string) string { return filepath.Join(v.dir, node, "keepalived.log") }

func (v *vrrp) start(node string) error {
	in := func(name string) string { return filepath.Join(v.dir, node, name) }
	if err := os.WriteFile(in("keepalived.conf"), []byte(v.config(node)), 0o644); err != nil {
		return fmt.Errorf("write keepalived's configuration: %w", err)
	}
	cmd := exec.Command("keepalived", "--dont-fork", "--log-console", "--vrrp",
		"--use-file", in("keepalived.conf"), "--pid", in(vrrpMainPID), "--vrrp_pid", in(vrrpChildPID))
	p, err := netlab.Detach(v.top.Full(node), cmd, v.log(node))
	if err != nil {
		return err
	}
	v.daemons[node] = p
	return nil
}

func (v *vrrp) Up(context.Context) error {
	if _, err := exec.LookPath("keepalived"); err != nil {
		return fmt.Errorf("keepalived is not installed (%w); try: apt-get install -y keepalived", err)
	}
	if err := v.build(); err != nil {
		return err
	}
	for _, n := range lab.NodeNames() {
		if err := v.start(n); err != nil {
			return err
		}
	}
	return nil
}

func (v *vrrp) NotReady(context.Context) string {
	holders := 0
	for _, n := range lab.NodeNames() {
		if !v.daemons[n].Alive() {
			return fmt.Sprintf("keepalived of %s does not run; its log: %s", n, v.log(n))
		}
		has, err := netlab.HasAddress(v.top.Full(n), netlab.PortRouter, v.vip)
		if err != nil {
			return err.Error()
		}
		if has {
			holders++
		}
	}
	if holders != 1 {
		return fmt.Sprintf("%d nodes hold %s", holders, v.vip)
	}
	return ""
}

func (v *vrrp) Heal(context.Context) error {
	if v.dead == "" {
		return nil
	}
	ns := v.top.Full(v.dead)
	node := v.dead
	_ = v.daemons[node].Alive() // reaps it
	// What a killed keepalived leaves, and a reboot would not: its address, and the
	// numbers of its processes, which it may take for running ones.
	err := errors.Join(netlab.RemoveAddress(ns, netlab.PortRouter, v.vip), netlab.Unsilence(ns))
	for _, f := range []string{vrrpMainPID, vrrpChildPID} {
		if rerr := os.Remove(filepath.Join(v.dir, node, f)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	if err != nil {
		return err
	}
	v.dead = ""
	return v.start(node)
}

// vrrpChanges are what keepalived logs when its state changes.
var vrrpChanges = []string{"Entering MASTER STATE", "Entering BACKUP STATE", "Entering FAULT STATE"}

// Count counts the changes of state.
func (v *vrrp) Count(context.Context) (Count, error) {
	var c Count
	for _, n := range lab.NodeNames() {
		text, err := os.ReadFile(v.log(n))
		if err != nil {
			return c, fmt.Errorf("read keepalived's log: %w", err)
		}
		for _, w := range vrrpChanges {
			c.Verdicts += strings.Count(string(text), w)
		}
	}
	return c, nil
}

func (v *vrrp) Down(context.Context) error {
	var errs []error
	for _, p := range v.daemons {
		errs = append(errs, p.Stop(daemonGrace))
	}
	return errors.Join(append(errs, v.remove())...)
}

// daemonGrace is how long a daemon may take to end by itself.
const daemonGrace = 3 * time.Second
