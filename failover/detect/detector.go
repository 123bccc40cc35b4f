package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
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
// the defaults T is 200–400 ms, and up to 500 ms on a node whose last probe
// failed too. A wrong death costs nothing while both nodes forward, because the
// action on it is a change of preference.
const (
	DefaultProbeInterval = 100 * time.Millisecond
	DefaultProbeTimeout  = 50 * time.Millisecond
	DefaultSuspicionMult = 1

	// maxHealth bounds by how many intervals an overloaded node waits longer.
	maxHealth = 1
	// gossipShare is how often gossip goes out in one probe interval. A suspicion
	// and its refutation each wait for it once, and with SuspicionMult 1 both have
	// to fit into one interval: at 2, a pair with 1 % loss had 55 false deaths in
	// 20 minutes of virtual time, at 5 it had none. retransmitMult spreads each
	// message over more than one interval, so that a short blackout does not
	// swallow every copy.
	gossipShare    = 5
	retransmitMult = 8
	// rejoinEvery is the pause between attempts to reach a node that is not a
	// member, and between repetitions of a report. streamTimeout bounds one attempt.
	rejoinEvery   = time.Second
	streamTimeout = time.Second
	// leaveTimeout is how long the gossip of a goodbye may take.
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
	// Keys of 16, 24 or 32 bytes encrypt and authenticate all gossip: the first
	// what is sent, any what is received. None means plain gossip.
	Keys [][]byte
	// Peers are host:port of the other nodes; see SetPeers.
	Peers []string
	// Emit takes the inputs. It is called from the detector's goroutines, one
	// call at a time, and must not block for long, nor call anything of the
	// detector but Announce.
	Emit func(failover.Input)
	// Log and Now may be nil: then nothing is logged, and the clock is the
	// system's.
	Log *slog.Logger
	Now func() time.Time
}

// Detector is one node's membership of the pair.
type Detector struct {
	cfg    Config
	ml     *memberlist.Memberlist
	ring   *memberlist.Keyring // nil without keys
	cancel context.CancelFunc
	wg     sync.WaitGroup
	// Each has room for one, as only the newest report counts.
	news  chan []byte // to be sent as a datagram
	sure  chan []byte // to be sent over a stream
	stale chan struct{}

	// order makes what is emitted of a node follow what became of it.
	//
	// Invariant: no report is emitted after the death of its node, or the
	// machine would take the node for alive and nobody would watch it.
	order sync.Mutex

	mu        sync.Mutex
	closed    bool
	last      failover.Report
	meta      []byte
	peers     []string
	lastHeard map[string]time.Time
	goodbye   map[string]bool // the node's last report said it stops
	// member holds the nodes that memberlist watches here, as copies: what its
	// Members returns is written to while others read it.
	//
	// Invariant: only a member is reported alive. A node may know us before we
	// watch it; believing its word then would mean never noticing its death.
	member map[string]*memberlist.Node
}

// New starts the detector. It fails if the address can't be bound.
func New(cfg Config) (*Detector, error) {
	setDefault(&cfg.ProbeInterval, DefaultProbeInterval)
	setDefault(&cfg.ProbeTimeout, min(DefaultProbeTimeout, cfg.ProbeInterval))
	setDefault(&cfg.SuspicionMult, DefaultSuspicionMult)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Detector{
		cfg: cfg, peers: slices.Clone(cfg.Peers), lastHeard: map[string]time.Time{}, goodbye: map[string]bool{}, member: map[string]*memberlist.Node{},
		news: make(chan []byte, 1), sure: make(chan []byte, 1), stale: make(chan struct{}, 1),
	}
	if len(cfg.Keys) > 0 {
		ring, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("gossip keys: %w", err)
		}
		d.ring = ring
	}
	ml, err := memberlist.Create(d.settings())
	if err != nil {
		return nil, fmt.Errorf("gossip on %s port %d: %w", cfg.Addr, cfg.Port, err)
	}
	d.mu.Lock()
	d.ml = ml
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.wg.Go(func() { d.tell(ctx, d.news, d.ml.SendBestEffort) })
	d.wg.Go(func() { d.tell(ctx, d.sure, d.ml.SendReliable) })
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
	c.DisableTcpPings = true // a stream must not hide that datagrams are lost
	c.IndirectChecks = 0     // there is nobody to ask
	c.AwarenessMaxMultiplier = maxHealth + 1
	c.GossipInterval, c.RetransmitMult = d.cfg.ProbeInterval/gossipShare, retransmitMult
	c.GossipToTheDeadTime = time.Minute
	c.PushPullInterval = pushPullEvery
	c.TCPTimeout = streamTimeout
	c.DeadNodeReclaimTime = time.Millisecond // a node may come back with a new address
	c.Keyring = d.ring
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

// Members lists the living members, this node included, sorted.
func (d *Detector) Members() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := append(slices.Collect(maps.Keys(d.member)), d.cfg.Node)
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
	d.last, d.meta = r, b
	renew(d.news, b)
	renew(d.sure, b)
	select {
	case d.stale <- struct{}{}:
	default:
	}
}

// renew replaces what waits in c. Only one goroutine may send at a time.
func renew(c chan []byte, b []byte) {
	select {
	case <-c:
	default:
	}
	c <- b
}

// tell sends reports to the other members. A datagram is fast and may be lost, a
// stream is sure and may hang for streamTimeout, so each has a goroutine.
func (d *Detector) tell(ctx context.Context, reports <-chan []byte, send func(*memberlist.Node, []byte) error) {
	for {
		select {
		case b := <-reports:
			d.toAll(b, send)
		case <-ctx.Done():
			return
		}
	}
}

func (d *Detector) toAll(b []byte, send func(*memberlist.Node, []byte) error) {
	d.mu.Lock()
	others := slices.Collect(maps.Values(d.member))
	d.mu.Unlock()
	for _, n := range others {
		if err := send(n, b); err != nil {
			d.cfg.Log.Debug("a report was not delivered", "event", "report.send", "reason", err, "node", n.Name)
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

// rejoin looks for the other nodes as long as they are not members. To those that
// are it says again what this node says of itself: a report that got lost must not
// leave them with an older one for ever.
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
		if d.meta != nil {
			renew(d.news, d.meta)
		}
		d.mu.Unlock()
		if len(peers) > 0 && d.ml.NumMembers() < 2 {
			_, _ = d.ml.Join(peers)
		}
		t.Reset(rejoinEvery)
	}
}

// Leave says goodbye, so that the other node knows a planned stop from a death.
// If the last report did not say so yet, a last word goes out first. It takes at
// most leaveTimeout, and streamTimeout more if the other node does not answer.
func (d *Detector) Leave() error {
	d.mu.Lock()
	r, closed := d.last, d.closed
	d.mu.Unlock()
	if closed {
		return errClosed
	}
	if !r.Stopping {
		r.Node, r.Stopping, r.Ready = d.cfg.Node, true, false
		r.N++
		if b, err := json.Marshal(r); err == nil {
			d.mu.Lock()
			d.last, d.meta = r, b // it is what is said from now on
			d.mu.Unlock()
			d.toAll(b, d.ml.SendBestEffort)
			d.toAll(b, d.ml.SendReliable)
		}
	}
	return d.ml.Leave(leaveTimeout)
}

var errClosed = errors.New("the detector is closed; say goodbye before closing it")

// Close ends the detector without a goodbye, and waits for its goroutines.
// Those of memberlist end by themselves soon after.
func (d *Detector) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
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
