package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"dyad/failover"
)

// Defaults and bounds of the detector.
//
// With two members nobody can be asked for a second opinion, and the suspicion
// timer starts at its minimum, so a silent death is declared after
//
//	T = W + ProbeInterval × (1 + health) + SuspicionMult × ProbeInterval
//
// where W, the wait for the next probe that reaches the peer, is up to two
// intervals (every other tick may probe nobody: the list wraps round over
// ourselves) and health is 0 on a node that keeps up, at most maxHealth. With
// the defaults T is 200–400 ms. A wrong death costs nothing while both nodes
// forward, because the action on it is a change of preference.
const (
	DefaultProbeInterval = 100 * time.Millisecond
	DefaultProbeTimeout  = 50 * time.Millisecond
	DefaultSuspicionMult = 1

	// maxHealth bounds by how many intervals an overloaded node waits longer.
	maxHealth = 1
	// rejoinEvery is the pause between attempts to reach a node that is not a
	// member. streamTimeout bounds one attempt.
	rejoinEvery   = time.Second
	streamTimeout = time.Second
	// leaveTimeout is how long a goodbye may take.
	leaveTimeout = 300 * time.Millisecond
	// pushPullEvery is the full exchange of state, a safety net.
	pushPullEvery = 10 * time.Second
)

// Config of a [Detector].
type Config struct {
	Node string
	// Addr and Port are where gossip is sent and received, TCP and UDP.
	Addr netip.Addr
	Port int
	// Transport replaces the network; nil means the real one.
	Transport memberlist.Transport
	// ProbeInterval: lower is faster and, under load, wrong more often.
	// ProbeTimeout: above the round trip, at most ProbeInterval.
	// SuspicionMult: intervals between suspicion and death.
	ProbeInterval, ProbeTimeout time.Duration
	SuspicionMult               int
	// SecretKey of 16, 24 or 32 bytes encrypts and authenticates all gossip.
	SecretKey []byte
	// Peers are host:port of the other nodes; see SetPeers.
	Peers []string
	// Emit takes the inputs. It is called from the detector's goroutines.
	Emit func(failover.Input)
	Log  *slog.Logger
	Now  func() time.Time
}

// Detector is one node's membership of the pair.
type Detector struct {
	cfg    Config
	ml     *memberlist.Memberlist
	cancel context.CancelFunc
	wg     sync.WaitGroup
	news   chan failover.Report // room for one: only the newest counts
	stale  chan struct{}        // room for one: the metadata changed

	mu        sync.Mutex
	meta      []byte
	peers     []string
	lastHeard map[string]time.Time
	goodbye   map[string]bool // the node's last report said it stops
	// member holds the nodes that memberlist watches here.
	//
	// Invariant: only a member is reported alive. A node may know us before we
	// watch it; believing its word then would mean never noticing its death.
	member map[string]bool
}

// New starts the detector. It fails if the address can't be bound.
func New(cfg Config) (*Detector, error) {
	setDefault(&cfg.ProbeInterval, DefaultProbeInterval)
	setDefault(&cfg.ProbeTimeout, min(DefaultProbeTimeout, cfg.ProbeInterval))
	setDefault(&cfg.SuspicionMult, DefaultSuspicionMult)
	d := &Detector{
		cfg: cfg, peers: slices.Clone(cfg.Peers), lastHeard: map[string]time.Time{}, goodbye: map[string]bool{}, member: map[string]bool{},
		news: make(chan failover.Report, 1), stale: make(chan struct{}, 1),
	}
	ml, err := memberlist.Create(d.settings())
	if err != nil {
		return nil, fmt.Errorf("gossip on %s port %d: %w", cfg.Addr, cfg.Port, err)
	}
	d.ml = ml
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.wg.Go(func() { d.tell(ctx) })
	d.wg.Go(func() { d.refresh(ctx) })
	d.wg.Go(func() { d.rejoin(ctx) })
	return d, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (d *Detector) settings() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = d.cfg.Node
	c.BindAddr, c.BindPort = d.cfg.Addr.String(), d.cfg.Port
	c.AdvertiseAddr, c.AdvertisePort = d.cfg.Addr.String(), d.cfg.Port
	c.Transport = d.cfg.Transport
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = d.cfg.ProbeInterval, d.cfg.ProbeTimeout, d.cfg.SuspicionMult
	c.DisableTcpPings = true // a dead host would only delay the verdict
	c.IndirectChecks = 0     // there is nobody to ask
	c.AwarenessMaxMultiplier = maxHealth + 1
	c.GossipInterval = d.cfg.ProbeInterval / 2
	c.GossipToTheDeadTime = time.Minute
	c.PushPullInterval = pushPullEvery
	c.TCPTimeout = streamTimeout
	c.DeadNodeReclaimTime = time.Millisecond // a node may come back with a new address
	c.SecretKey = d.cfg.SecretKey
	c.Delegate, c.Events, c.Ping = (*delegate)(d), (*events)(d), (*pings)(d)
	c.LogOutput = io.Discard
	return c
}

// SetPeers replaces the addresses of the other nodes, host:port.
func (d *Detector) SetPeers(peers []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers = slices.Clone(peers)
}

// Members lists the living members, this node included.
func (d *Detector) Members() []string {
	var out []string
	for _, n := range d.ml.Members() {
		out = append(out, n.Name)
	}
	slices.Sort(out)
	return out
}

// Announce tells the other node what this one says of itself: directly, which
// takes about a millisecond, and as metadata for whoever joins later. It never
// blocks.
func (d *Detector) Announce(r failover.Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, err := json.Marshal(r)
	if err != nil || len(b) > memberlist.MetaMaxSize {
		d.cfg.Log.Error("the report does not fit", "event", "report.encode", "reason", fmt.Sprint(err, len(b)))
		return
	}
	d.meta = b
	select {
	case <-d.news:
	default:
	}
	d.news <- r
	select {
	case d.stale <- struct{}{}:
	default:
	}
}

// tell sends reports. A datagram is fast and may be lost, a stream is sure.
func (d *Detector) tell(ctx context.Context) {
	for {
		var r failover.Report
		select {
		case r = <-d.news:
		case <-ctx.Done():
			return
		}
		b, err := json.Marshal(r)
		if err != nil {
			continue
		}
		for _, n := range d.ml.Members() {
			if n.Name == d.cfg.Node {
				continue
			}
			_ = d.ml.SendBestEffort(n, b)
			if err := d.ml.SendReliable(n, b); err != nil {
				d.cfg.Log.Debug("a report was not delivered", "event", "report.send", "reason", err, "node", n.Name)
			}
		}
	}
}

// refresh gossips new metadata. It waits for the gossip, so it has a goroutine
// of its own: a report must not queue behind it.
func (d *Detector) refresh(ctx context.Context) {
	for {
		select {
		case <-d.stale:
			if err := d.ml.UpdateNode(d.cfg.ProbeInterval); err != nil {
				d.cfg.Log.Debug("metadata was not gossiped", "event", "report.gossip", "reason", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// rejoin looks for the other nodes as long as they are not members.
func (d *Detector) rejoin(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		d.mu.Lock()
		peers := slices.Clone(d.peers)
		d.mu.Unlock()
		if len(peers) > 0 && d.ml.NumMembers() < 2 {
			_, _ = d.ml.Join(peers)
		}
		t.Reset(rejoinEvery)
	}
}

// Leave says goodbye, so that the other node knows a planned stop from a death.
func (d *Detector) Leave() error { return d.ml.Leave(leaveTimeout) }

// Close ends the detector without a goodbye, and waits for its goroutines.
func (d *Detector) Close() error {
	d.cancel()
	err := d.ml.Shutdown()
	d.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// HostPort joins an address and a port the way SetPeers wants them.
func HostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }
