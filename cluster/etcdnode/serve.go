package etcdnode

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/features"

	"dyad/eventlog"
)

// Settings of the member that no configuration changes.
const (
	// DefaultHeartbeat and DefaultElection are raft's timers. An election must
	// be at least 5 heartbeats.
	DefaultHeartbeat = 100 * time.Millisecond
	DefaultElection  = time.Second
	// maxTxnOps and maxRequestBytes let one append carry a full batch.
	maxTxnOps       = 16384
	maxRequestBytes = 8 << 20
	// DefaultQuota bounds the store on disk, in bytes. Beyond it, it is read-only.
	DefaultQuota = 2 << 30
	// compactEvery drops revisions that counters went through. Events are
	// written once, so it never touches them.
	compactEvery = "1h"
)

// ServeConfig is one member of the store. It goes to the child in JSON.
type ServeConfig struct {
	// Name is the member's name: the node's.
	Name string `json:"name"`
	// Dir holds the member's data and nothing else.
	Dir string `json:"dir"`
	// PeerURL is where the other member reaches this one: https, an address and
	// a port.
	PeerURL string `json:"peer_url"`
	// ClientURL is where the agent reaches it: https, a loopback address and a
	// port.
	ClientURL string `json:"client_url"`
	// Cluster is the cluster's ID; members of different clusters refuse each
	// other.
	Cluster string `json:"cluster"`
	// Members maps each member's name to its peer URL, this one's too. Only
	// used while Dir is empty.
	Members map[string]string `json:"members"`
	// Join starts an empty Dir as a new member of a store that exists (after
	// [AddLearner]), instead of as a new store.
	Join bool `json:"join,omitempty"`
	// Force starts the store as one of this member alone: it forgets the other
	// members. Run [KeepTail] first. The number is the epoch that the takeover
	// began: for each it happens once, and later starts with the same
	// configuration are plain ones. 0 is a plain start.
	Force eventlog.Epoch `json:"force,omitempty"`
	// Heartbeat and Election are raft's timers; default DefaultHeartbeat and
	// DefaultElection, at least 1 ms and 5 heartbeats, at most 50 s.
	Heartbeat time.Duration `json:"heartbeat_ns,omitempty"`
	Election  time.Duration `json:"election_ns,omitempty"`
	// TLS is nil in tests only: then the URLs are http, and whoever reaches them
	// may write.
	TLS *TLS `json:"tls,omitempty"`
	// Quota bounds the store's file, in bytes; default DefaultQuota.
	Quota int64 `json:"quota,omitempty"`
}

// Serve runs the member in this process until ctx ends or it fails. After ctx
// ended it hands leadership over, stops, and returns nil. A client that keeps a
// watch open delays that by up to 7 s; the child process (see [ChildMain])
// does not wait for it.
func Serve(ctx context.Context, c ServeConfig) error {
	for {
		m := member{ready: func() {}, stopped: func(error) {}}
		if err := serve(ctx, c, m); !errors.Is(err, errStartAgain) {
			return err
		}
	}
}

// member is how a running member and its surroundings talk.
type member struct {
	// ready is called when it answers, stopped when the process may end: with nil
	// after the end of its context, or with errStartAgain.
	ready   func()
	stopped func(error)
	// commands come while it runs; done is called with what came of each.
	commands <-chan command
	done     func(error)
}

// start starts the member; forced tells whether as one of it alone.
func (c ServeConfig) start(ctx context.Context) (e *embed.Etcd, forced bool, err error) {
	cfg, err := c.embed()
	if err != nil {
		return nil, false, err
	}
	forced, err = c.forces()
	switch {
	case err == nil && forced:
		err = force(cfg)
	case err == nil && !c.empty() && !c.comparable(ctx):
		err = corruptionCheck(cfg, false)
	}
	if err != nil {
		return nil, false, err
	}
	if e, err = embed.StartEtcd(cfg); err != nil {
		return nil, false, fmt.Errorf("start the store: %w", err)
	}
	return e, forced, nil
}

func serve(ctx context.Context, c ServeConfig, m member) error {
	fresh := c.empty()
	e, forced, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	answering := e.Server.ReadyNotify()
	deaf := newcomer{name: c.Name, dir: c.Dir, fresh: fresh}
	elect := time.NewTicker(hurryEvery)
	defer elect.Stop()
	for {
		select {
		case <-elect.C:
			if err := hurry(ctx, e.Server); err != nil && ctx.Err() == nil {
				return fmt.Errorf("elect the store's only voter: %w", err)
			}
			if deaf.sated(time.Now()) {
				m.stopped(errStartAgain) // not more gently than a crash, which it can take
			}
			if deaf.stuck(e.Server, time.Now()) {
				e.Server.HardStop()
				m.stopped(errStartAgain)
				return errStartAgain
			}
		case <-answering:
			answering = nil // closed for ever
			elect.Stop()
			if forced {
				if err := c.noteForced(); err != nil {
					return err
				}
			}
			m.ready()
		case o := <-m.commands:
			m.done(c.obey(ctx, e.Server, o))
		case err := <-e.Err():
			return fmt.Errorf("the store failed: %w", err)
		case <-e.Server.StopNotify():
			return errors.New("the store stopped by itself: it was removed from the cluster, or can't write its disk")
		case <-ctx.Done():
			// Without a peer there is nobody to hand over to; that's no error.
			_ = e.Server.TryTransferLeadershipOnShutdown()
			e.Server.HardStop()
			m.stopped(nil)
			return nil
		}
	}
}

// withDefaults fills in what may be left out.
func (c ServeConfig) withDefaults() ServeConfig {
	if c.Heartbeat == 0 {
		c.Heartbeat = DefaultHeartbeat
	}
	if c.Election == 0 {
		c.Election = DefaultElection
	}
	if c.Quota <= 0 {
		c.Quota = DefaultQuota
	}
	return c
}

// check tells what is wrong with c, before anything is started.
func (c ServeConfig) check() error {
	switch {
	case c.Name == "" || c.Dir == "" || c.Cluster == "":
		return errors.New("store: name, dir and cluster must be given")
	case c.Heartbeat < time.Millisecond || c.Election < 5*c.Heartbeat || c.Election > 50*time.Second:
		return fmt.Errorf("store: heartbeat %s, election %s: the heartbeat is at least 1ms, the election 5 heartbeats to 50s", c.Heartbeat, c.Election)
	case c.Members[c.Name] != c.PeerURL:
		return fmt.Errorf("store: the members %v don't name %s at %s", c.Members, c.Name, c.PeerURL)
	}
	if err := c.TLS.check(c.PeerURL, c.ClientURL); err != nil {
		return err
	}
	_, at, err := memberURL(c.ClientURL)
	if err != nil {
		return err
	}
	// Nobody but the agent on this node has business there.
	if !at.Addr().IsLoopback() {
		return fmt.Errorf("store: client URL %s is not on a loopback address such as 127.0.0.1", c.ClientURL)
	}
	return nil
}

// memberURL reads https://address:port, or http; see [TLS].
func memberURL(s string) (url.URL, netip.AddrPort, error) {
	u, err := url.Parse(s)
	if err != nil {
		return url.URL{}, netip.AddrPort{}, fmt.Errorf("store: %w", err)
	}
	at, err := netip.ParseAddrPort(u.Host)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || at.Port() == 0 || at.Addr().IsUnspecified() {
		return url.URL{}, netip.AddrPort{}, fmt.Errorf("store: URL %q is not https://ADDRESS:PORT", s)
	}
	return *u, at, nil
}

// embed translates c for etcd.
func (c ServeConfig) embed() (*embed.Config, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	peer, _, err := memberURL(c.PeerURL)
	if err != nil {
		return nil, err
	}
	client, _, err := memberURL(c.ClientURL)
	if err != nil {
		return nil, err
	}
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.Dir
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	e.InitialClusterToken = c.Cluster
	e.InitialCluster = initialCluster(c.Members)
	if c.Join {
		e.ClusterState = embed.ClusterStateFlagExisting
	}
	e.TickMs = uint(c.Heartbeat.Milliseconds())
	e.ElectionMs = uint(c.Election.Milliseconds())
	e.MaxTxnOps, e.MaxRequestBytes, e.QuotaBackendBytes = maxTxnOps, maxRequestBytes, c.Quota
	e.AutoCompactionMode, e.AutoCompactionRetention = embed.CompactorModePeriodic, compactEvery
	e.EnableGRPCGateway = false
	// Who may change the members is decided before the store is asked, and not by
	// how long they have been connected.
	e.StrictReconfigCheck = false
	c.TLS.apply(e)
	e.LogLevel, e.LogOutputs = "warn", []string{embed.StdErrLogOutput}
	return e, corruptionCheck(e, true)
}

// corruptionCheck switches etcd's comparison with the other members before it
// serves. The one at each compaction is always on.
func corruptionCheck(e *embed.Config, on bool) error {
	gate, ok := e.ServerFeatureGate.(featuregate.MutableFeatureGate)
	if !ok {
		return errors.New("store: this etcd has no switch for its corruption check")
	}
	if err := gate.SetFromMap(map[string]bool{
		string(features.InitialCorruptCheck): on, string(features.CompactHashCheck): true,
	}); err != nil {
		return fmt.Errorf("store: switch the corruption check to %v: %w", on, err)
	}
	return nil
}

func initialCluster(members map[string]string) string {
	var out []string
	for name, u := range members {
		out = append(out, name+"="+u)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}
