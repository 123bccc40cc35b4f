package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster"
	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/etcdnode"
	"dyad/cluster/hostcheck"
	"dyad/cluster/identity"
	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/eventlog"
	"dyad/eventlog/etcdlog"
	"dyad/eventlog/journal"
	"dyad/eventlog/segment"
	"dyad/failover"
	"dyad/failover/beat"
	"dyad/failover/detect"
	"dyad/projections"
	"dyad/speaker"
	"dyad/speaker/address"
	"dyad/speaker/gobgp"
	"dyad/speaker/layer2"
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
	cfg  config.Config
	opts Options
	file *stateFile
	boot string
	id   *identity.Store

	client  *clientv3.Client
	log     *etcdlog.Log
	store   *etcdnode.Supervisor
	speaker speaker.Speaker
	remote  *remote
	agent   *cluster.Agent
	steward *steward.Steward
	looks   *senses // used by the steward's goroutine alone
	claims  claims
	named   eventlog.Witness // whose register claims holds; touched by keepState only

	witnesses *witnesses
	det       *detect.Detector
	heart     *beat.Supervisor // nil without a pulse
	beatKey   []byte
	undo      []func(context.Context) // in the order of building
	wg        sync.WaitGroup
	news      chan projections.State // room for one: the newest state
}

// Run runs the agent until ctx ends, and then stops it as planned. The data
// directory must have been prepared by [Init] or [Join].
func Run(ctx context.Context, c config.Config, o Options) (err error) {
	p := &process{cfg: c, opts: o, boot: uuid.NewString(), news: make(chan projections.State, 1)}
	defer p.close()
	if err := p.openDir(ctx); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if p.file.get().Voter {
		return p.vote(ctx)
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
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
		"node", c.Node, "version", o.Version, "mode", string(p.file.get().Mode), "socket", c.Socket)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.wg.Go(func() { p.keepState(work) })
	p.wg.Go(func() { p.steward.Run(work) })
	p.wg.Go(func() { p.keepOrphans(work) })
	p.wg.Go(func() { p.id.Keep(work) })
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
	state, err := etcdnode.LoadState(p.cfg.DataDir)
	if err != nil {
		return err
	}
	if state.Node != p.cfg.Node {
		return fmt.Errorf("it belongs to %s, and this node is %s\n  try: node: %s in the configuration", state.Node, p.cfg.Node, state.Node)
	}
	if prefix := p.cfg.Store.Prefix; state.External != prefix {
		return fmt.Errorf("%s\n  try: the store: section this node was made with, or dyad backup, and dyad restore into an empty directory", otherStore(state.External, prefix))
	}
	p.file = &stateFile{dir: p.cfg.DataDir, state: state}
	return p.openIdentity()
}

// build makes the agent and everything it owns.
func (p *process) build(context.Context) error {
	if err := p.openLog(); err != nil {
		return err
	}
	segments, err := segment.Open(segmentsDir(p.cfg))
	if err != nil {
		return err
	}
	whole := segment.Join(p.log, segments)
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
	onSegments := layer2.New(p.opts.Log)
	p.speaker = speaker.NewBoth(bgp, onSegments, 0)
	// Addresses stay on the host until the sessions are closed.
	p.later(func(ctx context.Context) { _ = p.speaker.Close(ctx); _ = addresses.Reset(ctx) })
	p.remote = newRemote(p.id.ClientTLS())
	p.later(func(context.Context) { p.remote.close() })
	p.witnesses = &witnesses{
		release:     p.opts.Version,
		certificate: func() (*tls.Certificate, error) { return p.id.Current(), nil },
		forget:      func() { p.claims.set(quorum.Claim{}, false) },
	}
	p.claims.cluster = p.file.get().Cluster
	p.useWitness(p.file.get().Witness)
	p.later(func(context.Context) { p.useWitness(eventlog.Witness{}) })
	p.agent = cluster.New(cluster.Parts{
		Config: p.cfg, Version: p.opts.Version, Boot: p.boot, PID: os.Getpid(),
		Log: whole, Journal: facts, Speaker: p.speaker, Layer2: onSegments, Addresses: addresses, Peer: p.remote,
		Host: hostcheck.New(), Tester: bgp,
		Checkpoint: cluster.FileCheckpoint{Path: checkpointPath(p.cfg)},
		Retention:  p.retention(segments, whole),
		Witness:    p.witnesses, KeptWitness: func() eventlog.Witness { return p.file.get().Witness },
		Admit: p.admit, Readmit: p.readmit, OnState: p.onState, Identity: &keys{p: p},
		Bootstrap: declarations(p.cfg, p.opts.Version, p.file.get()),
		Now:       time.Now, NewID: newID, Logger: p.opts.Log,
	})
	return nil
}

// openLog opens the log: in this node's own store, or in one that others run.
func (p *process) openLog() (err error) {
	cc, o := etcdlog.ClientConfig(clientURL(p.cfg)), etcdlog.Options{}
	cc.TLS = p.id.ClientTLS()
	if p.external() {
		if cc, o, err = externalLog(p.cfg, p.file.get().Cluster); err != nil {
			return err
		}
		o.Seen = lastSeen(p.cfg)
	}
	if p.client, err = clientv3.New(cc); err != nil {
		return err
	}
	p.later(func(context.Context) { _ = p.client.Close() })
	o.Logger = p.opts.Log
	if p.log, err = etcdlog.Open(p.client, o); err != nil {
		return err
	}
	p.later(func(context.Context) { p.log.Close() })
	return nil
}

// retention looks after the size of the store only where it is this node's own.
func (p *process) retention(segments *segment.Store, whole *segment.Log) *cluster.Retention {
	r := &cluster.Retention{Segments: sealed{segments}, Floor: p.log.Floor, Trim: whole.Trim}
	if !p.external() {
		r.Room = etcdnode.NewRoom(p.client)
	}
	return r
}

// newID is a UUIDv7.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// serve is this node's member, as node.state has it.
func (p *process) serve() etcdnode.ServeConfig {
	s := p.file.get()
	return etcdnode.ServeConfig{
		Name: p.cfg.Node, Dir: storeDir(p.cfg), PeerURL: peerURL(p.cfg), ClientURL: clientURL(p.cfg),
		Cluster: s.Cluster, Members: s.Members, Join: s.Mode != quorum.Solo, TLS: storeTLS(identityDir(p.cfg), s.Cluster),
		Quota: int64(p.cfg.Retention.QuotaMiB) << 20,
	}
}

// startStore starts the store, unless a takeover or a return comes first.
func (p *process) startStore(context.Context) error {
	if p.external() {
		p.useExternal()
		return nil
	}
	if err := p.checkStore(); err != nil {
		return err
	}
	if err := p.voidGrant(); err != nil {
		return err
	}
	s := p.file.get()
	sup, err := etcdnode.Start(context.Background(), etcdnode.SupervisorConfig{
		Exe: p.opts.Exe, Args: p.opts.StoreArgs, Log: p.opts.Log, Notify: p.storeChanged,
		Serve: p.serve(), Halted: s.Mode == quorum.Stale || s.Step == quorum.Granted,
	})
	if err != nil {
		return err
	}
	p.store = sup
	p.later(sup.Stop)
	p.looks = &senses{p: p}
	p.startSteward(p.looks.look)
	p.agent.Attach(cluster.Attached{Store: sup, Quorum: p.steward})
	return nil
}

func (p *process) startSteward(look func(context.Context) steward.Reading) {
	p.steward = steward.New(steward.Config{
		Self: p.cfg.Node, Record: p.file.get().Record(), HoldDown: p.holdDown(), Look: look, Deeds: p.deeds(),
		Save:  func(m quorum.Move, s quorum.Sight) error { return p.file.save(m, s, p.agent.State()) },
		Claim: p.claims.get, OnChange: p.quorumChanged, Now: time.Now, Log: p.opts.Log,
	})
}

// voidGrant ends a takeover that was broken off and must not go on by itself.
//
// Invariant: a store that can't be read is never started as one that has a vote;
// nobody knows whether it was begun anew.
func (p *process) voidGrant() error {
	s := p.file.get()
	r := quorum.Boot(s.Record(), false)
	if r == s.Record() {
		return nil
	}
	reason := "this node was away, and the " + string(s.By) + " may have given the log to the other one"
	begun, err := etcdnode.Begun(storeDir(p.cfg), s.Next, s.Mode != quorum.Stale)
	switch {
	case begun:
		return nil
	case err != nil:
		r, reason = quorum.Record{Mode: quorum.Stale, Epoch: s.Epoch}, err.Error()
	}
	p.opts.Log.Warn("a takeover that was broken off does not go on by itself", "event", "store.void", "reason", reason, "mode", string(r.Mode), "epoch", r.Epoch)
	return p.file.update(func(n *etcdnode.State) { n.SetRecord(r); n.Evidence = nil })
}

// checkStore looks at what the store's directory should hold.
func (p *process) checkStore() error {
	s := p.file.get()
	_, err := os.Stat(storeDir(p.cfg))
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !gone:
		return err
	case !gone:
		return p.ownStore()
	case s.Mode == quorum.Stale, s.Mode == quorum.Joining, s.Epoch == 0:
		return nil
	case s.Mode == quorum.Solo || s.Mode == quorum.Sole:
		return fmt.Errorf("%s is gone, and this node was the only one with the log\n  try: put it back, or dyad restore FILE", storeDir(p.cfg))
	}
	// A pair's other node has everything. This one must never vote again with an
	// empty store: it would forget what it acknowledged.
	p.opts.Log.Error("the store is gone; this node joins again", "event", "store.gone", "reason", "its directory does not exist", "dir", storeDir(p.cfg))
	return p.file.update(func(n *etcdnode.State) { n.SetRecord(quorum.Record{Mode: quorum.Stale, Epoch: s.Epoch}) })
}

// storeChanged hears of the store's process.
func (p *process) storeChanged(up bool, why string) {
	if up {
		p.markStore()
		etcdnode.Reconnect(p.client)
	}
	p.agent.StoreChanged(up, why)
}

// quorumChanged tells the other node, the log and the agent what this node is.
func (p *process) quorumChanged(s steward.Status) {
	p.agent.Emit(failover.Log{Epoch: s.Record.Epoch, Mode: string(s.Record.Mode)})
	p.agent.QuorumChanged(s)
}

func (p *process) startDetector(context.Context) error {
	f := p.cfg.Failover
	det, err := detect.New(detect.Config{
		Node: p.cfg.Node, Addr: p.cfg.Address, Port: p.cfg.Ports.Gossip,
		ProbeInterval: f.ProbeInterval.Std(), ProbeTimeout: f.ProbeTimeout.Std(), SuspicionMult: f.SuspicionMult,
		Keys: p.id.GossipKeys(), Peers: p.file.get().Gossip, Emit: p.agent.Emit, Log: p.opts.Log, Now: time.Now,
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
	conf := p.id.ServerTLS(func(fingerprint string) bool { _, ok := p.token(fingerprint); return ok })
	p.serveBoth(local, remote, conf, p.who, h)
	return nil
}

// serveBoth serves h on the unix socket and with certificates, until close.
func (p *process) serveBoth(local, remote net.Listener, conf *tls.Config, who func(tls.ConnectionState) (api.Caller, error), h http.Handler) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	serve := func(name string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				p.opts.Log.Error("the API stopped", "event", "api.stopped", "reason", err, "front", name)
			}
		})
	}
	serve("unix", func() error { return api.ServeUnix(ctx, local, access(p.cfg.Access), h, p.opts.Log) })
	serve("tcp", func() error { return api.ServeTCP(ctx, remote, conf, who, h, p.opts.Log) })
	p.later(func(context.Context) { cancel(); wg.Wait() })
}
