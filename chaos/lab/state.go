package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dyad/chaos/netlab"
)

// ErrNoLab means that no lab is up in the directory.
var ErrNoLab = errors.New("no lab is up")

// State is what is written down of a lab, in state.json of its directory.
type State struct {
	// Version of this file's form.
	Version int    `json:"version"`
	Dir     string `json:"dir"`
	Prefix  string `json:"prefix"` // of its namespaces
	Router  string `json:"router"` // frr, bird or gobgp
	Binary  string `json:"binary"`
	// Rootless is true if the lab lives in a user namespace.
	Rootless bool      `json:"rootless"`
	Created  time.Time `json:"created"`
	// Ready is set once both nodes were ready.
	Ready bool        `json:"ready"`
	Plan  netlab.Plan `json:"plan"`
}

const (
	stateVersion = 1
	stateFile    = "state.json"
	lockFile     = "lock"
	drillLock    = "drill.lock"
)

// DefaultDir is where a lab lies unless told otherwise.
func DefaultDir() string {
	if inside := netlab.InsideDir(); inside != "" {
		return inside
	}
	if os.Geteuid() != 0 {
		if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
			return filepath.Join(d, "dyad-lab")
		}
		return filepath.Join(os.TempDir(), fmt.Sprintf("dyad-lab-%d", os.Geteuid()))
	}
	return "/run/dyad-lab"
}

// maxPrefix bounds the length of a prefix that is taken from a directory's name.
const maxPrefix = 12

// PrefixFor is the prefix of the namespaces of the lab in dir: the directory's
// own name if it lies in /run, such as dyad-lab, else a hash. Labs in different
// directories do not meet.
func PrefixFor(dir string) string {
	if name := filepath.Base(dir); filepath.Dir(dir) == "/run" && strings.HasPrefix(name, "dyad-") && len(name) <= maxPrefix {
		return name
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(dir))
	return fmt.Sprintf("dyad-%08x", h.Sum32())
}

// Lab is a lab in a directory.
type Lab struct{ State }

// Open finds the lab in dir.
func Open(dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s\n  try: dyad lab up", ErrNoLab, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the lab's state: %w", err)
	}
	l := &Lab{}
	if err := json.Unmarshal(b, &l.State); err != nil {
		return nil, fmt.Errorf("the lab's state in %s cannot be read (%w)\n  try: dyad lab down --dir %s", dir, err, dir)
	}
	if l.Version != stateVersion {
		return nil, fmt.Errorf("the lab in %s was made by another release (state version %d, this one writes %d)\n  try: dyad lab down --dir %s",
			dir, l.Version, stateVersion, dir)
	}
	return l, nil
}

func (l *Lab) save() error {
	b, err := json.MarshalIndent(l.State, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the lab's state: %w", err)
	}
	path := filepath.Join(l.Dir, stateFile)
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return fmt.Errorf("write the lab's state: %w", err)
	}
	return os.Rename(path+".new", path)
}

// Node is one node of a lab.
type Node struct {
	Name   string
	NS     string // full name of its namespace
	Dir    string
	Socket string // of the agent's API
	Config string // the agent's configuration file
}

// NodeNames are the names of a lab's nodes.
func NodeNames() []string { return []string{netlab.NodeA, netlab.NodeB} }

// Node returns the node of that name.
func (l *Lab) Node(name string) (Node, error) {
	if !slices.Contains(NodeNames(), name) {
		return Node{}, fmt.Errorf("the lab has no node %q; it has %v", name, NodeNames())
	}
	d := filepath.Join(l.Dir, name)
	return Node{
		Name: name, NS: l.NS(name), Dir: d,
		Socket: filepath.Join(d, "dyad.sock"), Config: filepath.Join(d, "dyad.yaml"),
	}, nil
}

// Other is the name of the other node.
func Other(node string) string {
	if node == netlab.NodeA {
		return netlab.NodeB
	}
	return netlab.NodeA
}

// NS is the full name of a namespace of the lab.
func (l *Lab) NS(name string) string { return l.Prefix + "-" + name }

// Files of a node's directory.
const (
	agentFile     = "agent.pid.json"     // the agent's process
	superviseFile = "supervise.pid.json" // its supervisor's
	echoFile      = "echo.pid.json"
	holdLock      = "hold.lock" // held by whoever decides whether the agent runs
)

// Agent is the agent's process on this node; it may have ended.
func (n Node) Agent() (netlab.Process, error) {
	return netlab.LoadProcess(filepath.Join(n.Dir, agentFile))
}

// Supervisor is the process that keeps the agent running; it may have ended.
func (n Node) Supervisor() (netlab.Process, error) {
	return netlab.LoadProcess(filepath.Join(n.Dir, superviseFile))
}

// HoldPath is the file whose lock decides who may start the agent.
func (n Node) HoldPath() string { return filepath.Join(n.Dir, holdLock) }

// Inside is a process that lives in the lab's namespaces, to reach a rootless
// lab through.
func (l *Lab) Inside() (netlab.Process, error) {
	for _, name := range NodeNames() {
		n, _ := l.Node(name)
		for _, f := range []string{superviseFile, echoFile} {
			if p, err := netlab.LoadProcess(filepath.Join(n.Dir, f)); err == nil && p.Alive() {
				return p, nil
			}
		}
	}
	return netlab.Process{}, fmt.Errorf("%w: nothing of the lab in %s runs any more\n  try: dyad lab down --dir %s", netlab.ErrNoProcess, l.Dir, l.Dir)
}

// RouterControl is the control of the lab's router.
func (l *Lab) RouterControl() (netlab.RouterControl, error) {
	c := netlab.RouterConfig{
		NS: l.NS(netlab.Router), Dir: filepath.Join(l.Dir, netlab.Router), ASN: l.Plan.RouterASN,
		RouterID: l.Plan.RouterPeer, HoldTime: l.Plan.HoldTime, Binary: l.Binary,
	}
	for _, n := range NodeNames() {
		c.Peers = append(c.Peers,
			netlab.RouterPeer{Address: l.Plan.NodePeer[n], ASN: l.Plan.NodeASN},
			netlab.RouterPeer{Address: l.Plan.NodePeer6[n], ASN: l.Plan.NodeASN})
	}
	return netlab.NewRouter(l.Router, c)
}

// DrillLock is the file whose lock is held by the drill that runs on the lab.
func (l *Lab) DrillLock() string { return filepath.Join(l.Dir, drillLock) }
