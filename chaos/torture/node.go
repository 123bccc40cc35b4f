package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster/etcdnode"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
)

// Settings of the stores under torture.
const (
	// callTimeout bounds one append. It is above an election, as in the agent.
	callTimeout = 2 * time.Second
	// handles is how many clients append at each node at the same time. An
	// agent has one appender; more put more appends in flight when a node dies.
	handles = 3
	// stepBound bounds a start, a join, or a stop.
	stepBound = 30 * time.Second
	// Ports are taken below those that the kernel gives to clients, or a store
	// that is down might lose its port.
	firstPort, lastPort = 20000, 32000
	portTries           = 200
)

// node is one of the two.
type node struct {
	name   string
	dir    string // its data directory
	cfg    etcdnode.ServeConfig
	sup    *etcdnode.Supervisor
	client *clientv3.Client
	logs   []*etcdlog.Log
}

// newNode prepares a node that has no store yet.
func newNode(ctx context.Context, o Options, name, dir string) (*node, error) {
	n := &node{name: name, dir: filepath.Join(dir, name)}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return nil, err
	}
	peer, err := freeURL()
	if err != nil {
		return nil, err
	}
	own, err := freeURL()
	if err != nil {
		return nil, err
	}
	n.cfg = etcdnode.ServeConfig{
		Name: name, Dir: filepath.Join(n.dir, "store"), PeerURL: peer, ClientURL: own, Cluster: "torture",
		Members: map[string]string{name: peer}, Heartbeat: o.Heartbeat, Election: o.Election,
	}
	if n.client, err = clientv3.New(etcdlog.ClientConfig(own)); err != nil {
		return nil, err
	}
	n.sup, err = etcdnode.Start(context.WithoutCancel(ctx), etcdnode.SupervisorConfig{
		Exe: o.Exe, Args: o.Args, Serve: n.cfg, Halted: true, Log: o.Log,
	})
	return n, errors.Join(err, ctx.Err())
}

func freeURL() (string, error) {
	for range portTries {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort)))
		if err == nil {
			return "http://" + l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("no free port found")
}

// close ends everything about the node but its files.
func (n *node) close() {
	n.closeLogs()
	if n.sup != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		n.sup.Stop(ended) // kills
	}
	if n.client != nil {
		_ = n.client.Close()
	}
}

func (n *node) closeLogs() {
	for _, l := range n.logs {
		l.Close()
	}
	n.logs = nil
}

// openLogs opens new handles: old ones insist on what they saw.
func (n *node) openLogs() error {
	n.closeLogs()
	for range handles {
		l, err := etcdlog.Open(n.client, etcdlog.Options{CallTimeout: callTimeout})
		if err != nil {
			return err
		}
		n.logs = append(n.logs, l)
	}
	return nil
}

// run starts the store with the node's configuration and waits until it answers.
func (n *node) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepBound)
	defer cancel()
	if err := n.sup.Restart(ctx, n.cfg); err != nil {
		return err
	}
	return n.ready(ctx)
}

func (n *node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepBound)
	defer cancel()
	if err := n.sup.WaitReady(ctx); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	etcdnode.Reconnect(n.client)
	return nil
}

// kill kills the store and keeps it down.
func (n *node) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepBound)
	defer cancel()
	n.closeLogs()
	return n.sup.Kill(ctx)
}

// leads tells whether the node's member leads the store.
func (n *node) leads(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := n.client.Status(ctx, n.cfg.ClientURL)
	return err == nil && s.Leader == s.Header.MemberId
}

// startEpoch appends epoch.started. It may be repeated.
func (n *node) startEpoch(ctx context.Context, epoch eventlog.Epoch, mode string, writers ...string) error {
	ctx, cancel := context.WithTimeout(ctx, stepBound)
	defer cancel()
	d, err := eventlog.NewDraft(eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{Epoch: epoch, Mode: mode, Writers: writers}, nil)
	if err != nil {
		return err
	}
	d.Key = fmt.Sprintf("epoch-%d", epoch)
	d.ID = d.Key
	for {
		_, err := n.logs[0].Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{d}, Epoch: epoch - 1})
		switch {
		case err == nil || errors.Is(err, eventlog.ErrDuplicate):
			return nil
		case errors.Is(err, eventlog.ErrUnavailable) || errors.Is(err, eventlog.ErrConflict):
			if ctx.Err() == nil {
				continue
			}
		}
		return fmt.Errorf("%s: start epoch %d: %w", n.name, epoch, err)
	}
}

// hashOf asks the node's log for the hash of an event.
func (n *node) hashOf(ctx context.Context) func(eventlog.Seq) (string, bool, error) {
	return func(seq eventlog.Seq) (string, bool, error) {
		ctx, cancel := context.WithTimeout(ctx, stepBound)
		defer cancel()
		for {
			run, err := n.logs[0].Read(ctx, seq-1, 1)
			switch {
			case errors.Is(err, eventlog.ErrUnavailable) && ctx.Err() == nil:
				// An append beside it was faster: it looks as if this read were
				// behind.
			case err != nil || len(run) == 0:
				return "", false, err
			default:
				return run[0].Hash, true, nil
			}
		}
	}
}
