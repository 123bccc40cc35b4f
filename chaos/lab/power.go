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

	"golang.org/x/sys/unix"

	"dyad/chaos/netlab"
)

// stopLimit bounds a planned stop of a node: the agent's own bound, and some.
const stopLimit = stopGrace + 10*time.Second

// PowerOff kills everything of a node at once: its supervisor, its agent and its
// store. Nothing starts them again until [Lab.PowerOn]. That the node is off
// already is no error.
func (l *Lab) PowerOff(name string) error {
	n, err := l.Node(name)
	if err != nil {
		return err
	}
	p, err := n.Supervisor()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.KillTree()
}

// Shutdown stops a node as planned, as systemd does, and returns when it is off.
func (l *Lab) Shutdown(ctx context.Context, name string) error {
	n, err := l.Node(name)
	if err != nil {
		return err
	}
	p, err := n.Supervisor()
	if err != nil {
		return err
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	return l.wait(ctx, name+" to stop", func() string {
		if p.Alive() {
			return "its supervisor still runs"
		}
		return ""
	})
}

// PowerOn starts a node that is off. With a binary it is that one which plays its
// part from now on; empty is the lab's.
func (l *Lab) PowerOn(name, binary string) error {
	n, err := l.Node(name)
	if err != nil {
		return err
	}
	if p, err := n.Supervisor(); err == nil && p.Alive() {
		return fmt.Errorf("%s is on already", name)
	}
	if binary == "" {
		binary = l.Binary
	}
	return l.supervise(n, binary)
}

// Paths between a node and the rest.
const (
	LinkCluster = netlab.PortCluster // to the other node
	LinkRouter  = netlab.PortRouter  // to the router
)

// Cut drops everything on these links of a node, without a link going down, until
// [Lab.Mend]. Other than a drill's silence it outlives the agent.
func (l *Lab) Cut(name string, links ...string) error { return netlab.Cut(l.NS(name), links...) }

// Mend ends a [Lab.Cut].
func (l *Lab) Mend(name string) error { return netlab.Mend(l.NS(name)) }

// Part keeps the two nodes from hearing each other on any path, while each still
// reaches the router and what is behind it, until [Lab.Meet].
func (l *Lab) Part() error {
	return errors.Join(l.Cut(netlab.NodeB, LinkCluster), l.isolate(true))
}

// Meet ends a [Lab.Part], and every [Lab.Cut] of node-b.
func (l *Lab) Meet() error {
	return errors.Join(l.Mend(netlab.NodeB), l.isolate(false))
}

func (l *Lab) isolate(on bool) error {
	return netlab.Isolate(l.NS(netlab.Router), on, netlab.PortTo(netlab.NodeA), netlab.PortTo(netlab.NodeB))
}

// The witness of a lab is a process in the router's namespace.
const (
	witnessFile = "witness.pid.json"
	witnessLog  = "witness.log"
	witnessPort = 7990
	// witnessLimit bounds the witness's start.
	witnessLimit = 20 * time.Second
)

func (l *Lab) witnessPath(name string) string { return filepath.Join(l.Dir, netlab.Router, name) }

// WitnessData is the directory in which the lab's witness keeps its claims.
func (l *Lab) WitnessData() string { return l.witnessPath("witness") }

// Witness is the process of the lab's witness; it may have ended.
func (l *Lab) Witness() (netlab.Process, error) {
	return netlab.LoadProcess(l.witnessPath(witnessFile))
}

// StartWitness starts the lab's witness, which both nodes reach by way of the
// router, and returns its URL for dyad witness add. Its data stays between starts.
func (l *Lab) StartWitness(ctx context.Context) (string, error) {
	log := l.witnessPath(witnessLog)
	// Each start prints the URL anew; an old one must not be taken for it.
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	listen := fmt.Sprintf("%s:%d", l.Plan.RouterPeer, witnessPort)
	cmd := exec.Command(l.Binary, "witness", "serve", "--listen", listen, "--data", l.WitnessData())
	p, err := netlab.Detach(l.NS(netlab.Router), cmd, log)
	if err != nil {
		return "", err
	}
	if err := p.Save(l.witnessPath(witnessFile)); err != nil {
		return "", errors.Join(err, p.Stop(0))
	}
	ctx, cancel := context.WithTimeout(ctx, witnessLimit)
	defer cancel()
	url := ""
	err = l.wait(ctx, "the witness to say its URL", func() string {
		url = firstURL(log)
		switch {
		case url != "":
			return ""
		case !p.Alive():
			return "it ended; its log: " + log
		}
		return "it has not yet"
	})
	return url, err
}

// firstURL is the URL that a witness printed into its log.
func firstURL(log string) string {
	b, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "https://") && strings.HasSuffix(line, "\n") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
