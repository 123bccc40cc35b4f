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

// stand is a network of the lab's shape with a service address and an echo
// responder on both nodes, for systems other than dyad.
type stand struct {
	name, dir, binary string
	plan              netlab.Plan
	top               netlab.Topology
	service           netip.Addr
	echo              map[string]netlab.Process
	dead              string // the killed node; empty if none is
}

func newStand(name, dir, binary string) stand {
	s := stand{name: name, dir: filepath.Join(dir, name), binary: binary, plan: netlab.DefaultPlan(), echo: map[string]netlab.Process{}}
	s.top = s.plan.Topology(lab.PrefixFor(s.dir))
	first, _, _ := strings.Cut(s.plan.Pool, "-")
	s.service = netip.MustParseAddr(first)
	for _, n := range lab.NodeNames() {
		s.top.Addresses = append(s.top.Addresses, netlab.Address{NS: n, Interface: "lo", Prefix: s.host()})
	}
	return s
}

// host is the service address as a prefix.
func (s *stand) host() netip.Prefix { return netip.PrefixFrom(s.service, s.service.BitLen()) }

func (s *stand) Name() string { return s.name }

func (s *stand) Place() Place {
	return Place{Client: s.top.Full(netlab.Client), Services: []netip.Addr{s.service}, Port: s.plan.EchoPort}
}

// Arm has nothing to do: nobody shares a stand.
func (s *stand) Arm(context.Context) error { return nil }

// build makes the network and starts the echo responders.
func (s *stand) build() error {
	for _, d := range append(lab.NodeNames(), netlab.Router) {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			return fmt.Errorf("make the directory of %s: %w", d, err)
		}
	}
	if err := netlab.Build(s.top); err != nil {
		return err
	}
	for _, n := range lab.NodeNames() {
		cmd := exec.Command(s.binary, "lab", "echo", "--name", n, "--port", fmt.Sprint(s.plan.EchoPort))
		p, err := netlab.Detach(s.top.Full(n), cmd, filepath.Join(s.dir, n, "echo.log"))
		if err != nil {
			return err
		}
		s.echo[n] = p
	}
	return nil
}

func (s *stand) Kill(_ context.Context, node string) (time.Time, error) {
	s.dead = node
	at := time.Now()
	if err := netlab.Silence(s.top.Full(node)); err != nil {
		return at, err
	}
	return at, netlab.KillIn(s.top.Full(node), s.echo[node])
}

// remove ends everything of the stand.
func (s *stand) remove() error {
	return errors.Join(netlab.Teardown(s.top.Prefix), netlab.RemoveRouterDirs(s.top.Prefix), os.RemoveAll(s.dir))
}
