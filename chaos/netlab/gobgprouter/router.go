package gobgprouter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	gobgpapi "github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

// Peer is a neighbour that may open a session.
type Peer struct {
	Address netip.Addr
	ASN     uint32
}

// Config of a router.
type Config struct {
	ASN      uint32
	RouterID netip.Addr
	HoldTime uint16 // seconds, proposed
	Peers    []Peer
	// Port to listen on; 0 is BGP's own, 179.
	Port int
	Log  *slog.Logger
}

// rescan is how often the whole table is compared with the kernel's, whatever
// events came: an event that was lost costs at most this long.
const rescan = time.Second

// maxDirty bounds how many changed prefixes are kept apart; beyond it, the
// whole table is looked at.
const maxDirty = 256

// Router is a running router. It forwards in the network namespace that it was
// started in.
type Router struct {
	bgp *server.BgpServer
	fib *fib
	log *slog.Logger

	wake chan struct{}
	done sync.WaitGroup
	stop context.CancelFunc

	mu    sync.Mutex
	dirty map[string]struct{} // prefixes; nil means all
	table map[netip.Prefix][]netip.Addr
}

// Start starts a router that waits for its peers. Stop it with [Router.Close].
func Start(ctx context.Context, c Config) (*Router, error) {
	f, err := newFIB()
	if err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	level := &slog.LevelVar{}
	level.Set(slog.LevelWarn)
	// The work outlives ctx, which bounds only the start.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Router{
		bgp: server.NewBgpServer(server.LoggerOption(c.Log, level)),
		fib: f, log: c.Log, stop: stop,
		wake: make(chan struct{}, 1), table: map[netip.Prefix][]netip.Addr{},
	}
	r.done.Go(r.bgp.Serve)
	if err := r.configure(ctx, run, c); err != nil {
		return nil, errors.Join(err, r.Close(ctx))
	}
	r.done.Go(func() { r.loop(run) })
	return r, nil
}

func (r *Router) configure(ctx, run context.Context, c Config) error {
	port := int32(c.Port)
	if port == 0 {
		port = 179
	}
	err := r.bgp.StartBgp(ctx, &gobgpapi.StartBgpRequest{Global: &gobgpapi.Global{
		Asn: c.ASN, RouterId: c.RouterID.String(), ListenPort: port, UseMultiplePaths: true,
	}})
	if err != nil {
		return fmt.Errorf("start BGP: %w", err)
	}
	err = r.bgp.WatchEvent(run, server.WatchEventMessageCallbacks{
		OnBestPath:   func(ps []*apiutil.Path, _ time.Time) { r.changed(ps) },
		OnPeerUpdate: func(*apiutil.WatchEventMessage_PeerEvent, time.Time) { r.changedAll() },
	}, server.WatchBestPath(true), server.WatchPeer())
	if err != nil {
		return fmt.Errorf("watch paths: %w", err)
	}
	for _, p := range c.Peers {
		if err := r.bgp.AddPeer(ctx, &gobgpapi.AddPeerRequest{Peer: peer(p, c.HoldTime)}); err != nil {
			return fmt.Errorf("add peer %s: %w", p.Address, err)
		}
	}
	return nil
}

func peer(p Peer, hold uint16) *gobgpapi.Peer {
	n := &gobgpapi.Peer{
		Conf:      &gobgpapi.PeerConf{NeighborAddress: p.Address.String(), PeerAsn: p.ASN},
		Transport: &gobgpapi.Transport{PassiveMode: true},
		Timers: &gobgpapi.Timers{Config: &gobgpapi.TimersConfig{
			HoldTime: uint64(hold), KeepaliveInterval: uint64(hold) / 3, ConnectRetry: 1, IdleHoldTimeAfterReset: 1,
		}},
	}
	for _, afi := range []gobgpapi.Family_Afi{gobgpapi.Family_AFI_IP, gobgpapi.Family_AFI_IP6} {
		n.AfiSafis = append(n.AfiSafis, &gobgpapi.AfiSafi{Config: &gobgpapi.AfiSafiConfig{
			Family: &gobgpapi.Family{Afi: afi, Safi: gobgpapi.Family_SAFI_UNICAST}, Enabled: true,
		}})
	}
	return n
}

// Close ends all sessions, takes every route back out of the kernel and waits
// for all goroutines.
func (r *Router) Close(ctx context.Context) error {
	r.stop()
	err := r.bgp.StopBgp(context.WithoutCancel(ctx), &gobgpapi.StopBgpRequest{})
	r.bgp.Stop()
	r.done.Wait()
	errs := []error{err}
	for p := range maps.Clone(r.fib.have) {
		errs = append(errs, r.fib.set(p, nil))
	}
	r.fib.close()
	return errors.Join(errs...)
}

func (r *Router) changed(ps []*apiutil.Path) {
	r.mu.Lock()
	if r.dirty != nil {
		for _, p := range ps {
			r.dirty[p.Nlri.String()] = struct{}{}
		}
		if len(r.dirty) > maxDirty {
			r.dirty = nil
		}
	}
	r.mu.Unlock()
	r.poke()
}

func (r *Router) changedAll() {
	r.mu.Lock()
	r.dirty = nil
	r.mu.Unlock()
	r.poke()
}

func (r *Router) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // already awake
	}
}

// takeDirty returns what to look at: nil for everything.
func (r *Router) takeDirty() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.dirty
	r.dirty = map[string]struct{}{}
	if d == nil {
		return nil
	}
	return slices.AppendSeq([]string{}, maps.Keys(d))
}

func (r *Router) loop(ctx context.Context) {
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-tick.C:
			r.mu.Lock()
			r.dirty = nil
			r.mu.Unlock()
		}
		if err := r.sync(r.takeDirty()); err != nil {
			r.log.Error("routes not in the kernel's table", "event", "fib-failed", "reason", err.Error())
		}
	}
}

// sync brings the kernel's table up to date for the given prefixes, or for all.
func (r *Router) sync(prefixes []string) error {
	var errs []error
	want := map[netip.Prefix][]netip.Addr{}
	for _, p := range prefixes {
		if pfx, err := netip.ParsePrefix(p); err == nil {
			want[pfx] = nil // unless the table still has it
		}
	}
	if prefixes == nil {
		for p := range r.fib.have {
			want[p] = nil
		}
	} else if len(prefixes) == 0 {
		return nil
	}
	for _, f := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		errs = append(errs, r.list(f, prefixes, want))
	}
	if err := errors.Join(errs...); err != nil {
		return err // rather keep what stands than remove what we could not read
	}
	for p, hops := range want {
		errs = append(errs, r.fib.set(p, hops))
	}
	r.mu.Lock()
	r.table = maps.Clone(r.fib.have)
	r.mu.Unlock()
	return errors.Join(errs...)
}

func (r *Router) list(f bgp.Family, prefixes []string, want map[netip.Prefix][]netip.Addr) error {
	req := apiutil.ListPathRequest{TableType: gobgpapi.TableType_TABLE_TYPE_GLOBAL, Family: f}
	for _, p := range prefixes {
		if pfx, err := netip.ParsePrefix(p); err == nil && pfx.Addr().Is6() == (f == bgp.RF_IPv6_UC) {
			req.Prefixes = append(req.Prefixes, &apiutil.LookupPrefix{Prefix: p})
		}
	}
	if prefixes != nil && len(req.Prefixes) == 0 {
		return nil
	}
	err := r.bgp.ListPath(req, func(nlri bgp.NLRI, ps []*apiutil.Path) {
		p, err := netip.ParsePrefix(nlri.String())
		if err != nil {
			return // not a unicast prefix
		}
		want[p] = best(routes(ps))
	})
	if err != nil {
		return fmt.Errorf("list paths: %w", err)
	}
	return nil
}

func routes(ps []*apiutil.Path) []route {
	var out []route
	for _, p := range ps {
		r := route{LocalPref: 100}
		for _, a := range p.Attrs {
			switch v := a.(type) {
			case *bgp.PathAttributeOrigin:
				r.Origin = v.Value
			case *bgp.PathAttributeAsPath:
				for _, s := range v.Value {
					r.Length += s.ASLen()
				}
			case *bgp.PathAttributeMultiExitDisc:
				r.MED = v.Value
			case *bgp.PathAttributeLocalPref:
				r.LocalPref = v.Value
			case *bgp.PathAttributeNextHop:
				r.NextHop = v.Value
			case *bgp.PathAttributeMpReachNLRI:
				r.NextHop = v.Nexthop
			}
		}
		if !p.IsNexthopInvalid && r.NextHop.IsValid() {
			out = append(out, r)
		}
	}
	return out
}

// Table is what the router forwards by.
func (r *Router) Table() map[netip.Prefix][]netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.table)
}
