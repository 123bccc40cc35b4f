package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster"
	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/journal"
	"dyad/failover/beat"
	"dyad/failover/detect"
	"dyad/projections"
	"dyad/speaker/address"
	"dyad/speaker/gobgp"
)

// closeBound bounds what is left to do after the agent's planned stop.
const closeBound = 5 * time.Second

// Options of Run.
type Options struct {
	Version string
	// Exe and StoreArgs start the store's child process; default this program
	// with "store".
	Exe       string
	StoreArgs []string
	// PulseArgs start the pulse likewise; default "pulse".
	PulseArgs []string
	Log       *slog.Logger
}

// process is a running node, as it is put together.
type process struct {
	cfg    config.Config
	opts   Options
	state  etcdnode.State
	boot   string
	key    []byte
	keyHex string

	client  *clientv3.Client
	log     *etcdlog.Log
	agent   *cluster.Agent
	det     *detect.Detector
	heart   *beat.Supervisor // nil without a pulse
	beatKey []byte
	undo    []func(context.Context) // in the order of building
	wg      sync.WaitGroup
	news    chan projections.State // room for one: the newest state
}

// Run runs the agent until ctx ends, and then stops it as planned. The data
// directory must have been prepared by [Init] or [Join].
func Run(ctx context.Context, c config.Config, o Options) (err error) {
	p := &process{cfg: c, opts: o, boot: uuid.NewString(), news: make(chan projections.State, 1)}
	defer p.close()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"data directory", p.openDir},
		{"agent", p.build},
		{"store", p.startStore},
		{"gossip", p.startDetector},
		{"pulse", p.startPulse},
		{"API", p.startAPI},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	o.Log.Info("the agent runs", "event", "agent.started", "reason", "asked to start",
		"node", c.Node, "version", o.Version, "mode", string(p.state.Mode), "socket", c.Socket)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.wg.Go(func() { p.keepState(work) })
	p.wg.Go(func() { p.promote(work) })
	err = p.agent.Run(ctx)
	cancel()
	p.wg.Wait()
	return err
}

// close undoes what was built, the newest first.
func (p *process) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeBound)
	defer cancel()
	for i := len(p.undo) - 1; i >= 0; i-- {
		p.undo[i](ctx)
	}
}

func (p *process) later(f func(context.Context)) { p.undo = append(p.undo, f) }

func (p *process) openDir(context.Context) error {
	lock, err := etcdnode.LockDir(p.cfg.DataDir)
	if err != nil {
		return err
	}
	p.later(func(context.Context) { _ = lock.Close() })
	if p.state, err = etcdnode.LoadState(p.cfg.DataDir); err != nil {
		return err
	}
	if p.state.Node != p.cfg.Node {
		return fmt.Errorf("it belongs to %s, and this node is %s\n  try: node: %s in the configuration", p.state.Node, p.cfg.Node, p.state.Node)
	}
	p.key, p.keyHex, err = readKey(p.cfg)
	return err
}

// build makes the agent and everything it owns.
func (p *process) build(context.Context) error {
	var err error
	if p.client, err = clientv3.New(etcdlog.ClientConfig(clientURL(p.cfg))); err != nil {
		return err
	}
	p.later(func(context.Context) { _ = p.client.Close() })
	if p.log, err = etcdlog.Open(p.client, etcdlog.Options{Logger: p.opts.Log}); err != nil {
		return err
	}
	p.later(func(context.Context) { p.log.Close() })
	facts, err := journal.Open(journalDir(p.cfg), p.cfg.Node, p.boot, journal.Options{Logger: p.opts.Log})
	if err != nil {
		return err
	}
	p.later(func(context.Context) { _ = facts.Close() })
	addresses, err := address.New(address.Options{StateFile: addressPath(p.cfg), Log: p.opts.Log})
	if err != nil {
		return fmt.Errorf("service addresses: %w", err)
	}
	p.later(func(context.Context) { addresses.Close() })
	bgp, err := gobgp.New(gobgp.Options{ConnectRetry: p.cfg.Speaker.ConnectRetry.Std(), Log: p.opts.Log})
	if err != nil {
		return fmt.Errorf("BGP: %w", err)
	}
	// Addresses stay on the host until the sessions are closed.
	p.later(func(ctx context.Context) { _ = bgp.Close(ctx); _ = addresses.Reset(ctx) })
	remote := newRemote(p.cfg.Node, p.keyHex)
	p.later(func(context.Context) { remote.close() })
	p.agent = cluster.New(cluster.Parts{
		Config: p.cfg, Version: p.opts.Version, Boot: p.boot, PID: os.Getpid(),
		Log: p.log, Journal: facts, Speaker: bgp, Addresses: addresses, Peer: remote,
		Checkpoint: cluster.FileCheckpoint{Path: checkpointPath(p.cfg)},
		Admit:      p.admit, OnState: p.onState,
		Bootstrap: declarations(p.cfg, p.opts.Version, p.state.Cluster, p.state.Mode == quorum.Solo),
		Now:       time.Now, NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Logger: p.opts.Log,
	})
	return nil
}

func (p *process) startStore(context.Context) error {
	sup, err := etcdnode.Start(context.Background(), etcdnode.SupervisorConfig{
		Exe: p.opts.Exe, Args: p.opts.StoreArgs, Log: p.opts.Log, Notify: p.agent.StoreChanged,
		Serve: etcdnode.ServeConfig{
			Name: p.cfg.Node, Dir: storeDir(p.cfg), PeerURL: peerURL(p.cfg), ClientURL: clientURL(p.cfg),
			Cluster: p.state.Cluster, Members: p.state.Members, Join: p.state.Mode != quorum.Solo,
		},
	})
	if err != nil {
		return err
	}
	p.later(sup.Stop)
	p.agent.Attach(cluster.Attached{Store: sup})
	return nil
}

func (p *process) startDetector(context.Context) error {
	f := p.cfg.Failover
	det, err := detect.New(detect.Config{
		Node: p.cfg.Node, Addr: p.cfg.Address, Port: p.cfg.Ports.Gossip,
		ProbeInterval: f.ProbeInterval.Std(), ProbeTimeout: f.ProbeTimeout.Std(), SuspicionMult: f.SuspicionMult,
		SecretKey: p.key, Peers: p.state.Gossip, Emit: p.agent.Emit, Log: p.opts.Log, Now: time.Now,
	})
	if err != nil {
		return err
	}
	p.det = det
	checker := detect.NewChecker(p.agent.Emit, p.opts.Log)
	p.later(func(context.Context) { checker.Close(); _ = det.Leave(); _ = det.Close() })
	with := p.agent.Attached()
	with.Detector, with.Checker = det, checker
	p.agent.Attach(with)
	return nil
}

// startAPI serves the API on the unix socket and on the cluster address.
func (p *process) startAPI(context.Context) error {
	h := api.NewHandler(p.agent, api.HandlerOptions{Log: p.opts.Log})
	local, err := api.ListenUnix(p.cfg.Socket)
	if err != nil {
		return err
	}
	remote, err := net.Listen("tcp", apiAddress(p.cfg))
	if err != nil {
		_ = local.Close()
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	serve := func(name string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				p.opts.Log.Error("the API stopped", "event", "api.stopped", "reason", err, "front", name)
			}
		})
	}
	serve("unix", func() error { return api.ServeUnix(ctx, local, h, p.opts.Log) })
	serve("tcp", func() error { return api.ServeTCP(ctx, remote, p.keyHex, h, p.opts.Log) })
	p.later(func(context.Context) { cancel(); wg.Wait() })
	return nil
}
