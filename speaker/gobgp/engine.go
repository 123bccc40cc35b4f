package gobgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"dyad/speaker"
)

// engine is one run of a GoBGP server under one router ID.
type engine struct {
	opts     Options
	routerID netip.Addr
	server   *server.BgpServer
	serve    sync.WaitGroup
	unwatch  context.CancelFunc
	nextVRF  uint32
}

// startEngine starts GoBGP. asn becomes its global ASN, which no router sees.
func startEngine(ctx context.Context, opts Options, routerID netip.Addr, asn uint32, log slog.Handler,
	watch func(*engine, *apiutil.WatchEventMessage_PeerEvent),
) (*engine, error) {
	e := &engine{opts: opts, routerID: routerID, unwatch: func() {}}
	e.server = server.NewBgpServer(server.LoggerOption(slog.New(log), new(slog.LevelVar)))
	e.serve.Go(e.server.Serve)
	global := &api.Global{Asn: asn, RouterId: routerID.String(), ListenPort: -1}
	if opts.ListenPort != 0 {
		global.ListenPort = int32(opts.ListenPort)
		for _, a := range opts.ListenAddresses {
			global.ListenAddresses = append(global.ListenAddresses, a.String())
		}
	}
	err := e.server.StartBgp(ctx, &api.StartBgpRequest{Global: global})
	if err != nil {
		err = fmt.Errorf("start BGP as %s: %w", routerID, err)
	} else {
		err = e.rejectImports(ctx)
	}
	if err == nil {
		var wctx context.Context
		wctx, e.unwatch = context.WithCancel(context.Background())
		err = e.server.WatchEvent(wctx, server.WatchEventMessageCallbacks{
			OnPeerUpdate: func(ev *apiutil.WatchEventMessage_PeerEvent, _ time.Time) { watch(e, ev) },
		}, server.WatchPeer())
	}
	if err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

// rejectImports lets nothing into the tables but what this process adds.
func (e *engine) rejectImports(ctx context.Context) error {
	own := &api.Policy{Name: "own-routes", Statements: []*api.Statement{{
		Name:       "own-routes",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}}}
	if err := e.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: own}); err != nil {
		return fmt.Errorf("refuse what routers send: %w", err)
	}
	err := e.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT,
		Policies:      []*api.Policy{{Name: own.Name}},
		DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
	}})
	if err != nil {
		return fmt.Errorf("refuse what routers send: %w", err)
	}
	return nil
}

// stop ends GoBGP and waits for it.
func (e *engine) stop() {
	e.unwatch()
	e.server.Stop()
	e.serve.Wait()
}

// addVRF makes a routing instance; see the package doc.
func (e *engine) addVRF(ctx context.Context) (string, error) {
	e.nextVRF++
	name := fmt.Sprintf("peer-%d", e.nextVRF)
	rd, err := apiutil.MarshalRD(bgp.NewRouteDistinguisherTwoOctetAS(0, e.nextVRF))
	if err != nil {
		return "", err
	}
	rt, err := apiutil.MarshalRT(bgp.NewTwoOctetAsSpecificExtended(bgp.EC_SUBTYPE_ROUTE_TARGET, 0, e.nextVRF, true))
	if err != nil {
		return "", err
	}
	rts := []*api.RouteTarget{rt}
	return name, e.server.AddVrf(ctx, &api.AddVrfRequest{Vrf: &api.Vrf{Name: name, Id: e.nextVRF, Rd: rd, ImportRt: rts, ExportRt: rts}})
}

func (e *engine) deleteVRF(ctx context.Context, name string) error {
	return e.server.DeleteVrf(ctx, &api.DeleteVrfRequest{Name: name})
}

// addPeer adds the neighbour; its session starts to come up.
func (e *engine) addPeer(ctx context.Context, p speaker.Peer, vrf string) error {
	hold := proposed(p)
	peer := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: p.Address.String(), PeerAsn: p.PeerASN, LocalAsn: p.SelfASN, Vrf: vrf},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry: uint64(e.opts.ConnectRetry.Round(time.Second) / time.Second),
			HoldTime:     uint64(hold), KeepaliveInterval: uint64(max(hold/3, 1)),
			IdleHoldTimeAfterReset: 1,
		}},
		Transport: &api.Transport{RemotePort: uint32(e.opts.RemotePort)},
	}
	if a := e.opts.localFor(p.Address.Is4()); a.IsValid() {
		peer.Transport.LocalAddress = a.String()
	}
	if e.opts.MultihopTTL > 1 {
		peer.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(e.opts.MultihopTTL)}
	}
	for _, f := range e.opts.families(p) {
		peer.AfiSafis = append(peer.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{
			Family: &api.Family{Afi: api.Family_Afi(f.Afi()), Safi: api.Family_Safi(f.Safi())}, Enabled: true,
		}})
	}
	if err := e.server.AddPeer(ctx, &api.AddPeerRequest{Peer: peer}); err != nil {
		return fmt.Errorf("add peer %s: %w", p.Address, err)
	}
	return nil
}

// deletePeer ends the session with Cease, Peer De-configured (RFC 4486).
func (e *engine) deletePeer(ctx context.Context, a netip.Addr) error {
	if err := e.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: a.String()}); err != nil {
		return fmt.Errorf("remove peer %s: %w", a, err)
	}
	return nil
}

// shutPeer ends the session with Cease, Administrative Shutdown, and keeps it
// from coming up again.
func (e *engine) shutPeer(ctx context.Context, a netip.Addr) error {
	return e.server.DisablePeer(ctx, &api.DisablePeerRequest{Address: a.String(), Communication: "dyad stops"})
}

// negotiated is the hold time of an established session, in seconds.
func (e *engine) negotiated(ctx context.Context, a netip.Addr) (uint16, error) {
	var hold uint16
	err := e.server.ListPeer(ctx, &api.ListPeerRequest{Address: a.String()}, func(p *api.Peer) {
		hold = uint16(p.GetTimers().GetState().GetNegotiatedHoldTime())
	})
	return hold, err
}

// put adds or replaces paths: GoBGP sends one UPDATE that replaces the old path
// implicitly (RFC 4271 section 9.1.2), never a withdrawal first.
func (e *engine) put(vrf string, paths []*apiutil.Path) error {
	_, err := e.server.AddPath(apiutil.AddPathRequest{VRFID: vrf, Paths: paths})
	return err
}

// take withdraws paths.
func (e *engine) take(vrf string, paths []*apiutil.Path) error {
	return e.server.DeletePath(apiutil.DeletePathRequest{VRFID: vrf, Paths: paths})
}
