package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dyad/cluster/api"
	"dyad/failover/beacon"
	"dyad/projections"
	"dyad/speaker"
)

const (
	// beaconEvery is how often the routers' side of the beacon is looked at.
	beaconEvery = 100 * time.Millisecond
	// BeaconFresh is how old an answer may be, counted from its question: a few
	// questions, and the router's time.
	BeaconFresh = 3 * time.Second
)

// beaconModes are numbers on the wire. They are never reused.
var beaconModes = []string{"", "SOLO", "PAIR", "SUSPENDED", "SOLE", "STALE", "JOINING", "WITNESSED", "EXTERNAL"}

// beacons keeps this node's beacon announced, and watches the other node's.
type beacons struct {
	a *Agent

	mu    sync.Mutex
	watch *beacon.Watch
	on    map[netip.Addr]told // by router; touched by the loop only
}

// told is what a router was last told, in which session.
type told struct {
	since  time.Time
	prefix netip.Prefix
	word   beacon.Word
}

func newBeacons(a *Agent) *beacons {
	return &beacons{a: a, watch: beacon.NewWatch(uint16(rand.Uint32())), on: map[netip.Addr]told{}}
}

// PeerBeacon tells whether the other node is known to be alive by its beacon,
// although it may be silent on every other path, and what it last said.
func (a *Agent) PeerBeacon() (alive bool, word beacon.Word) {
	a.beacons.mu.Lock()
	defer a.beacons.mu.Unlock()
	at := a.beacons.watch.Alive()
	word, _ = a.beacons.watch.Other()
	return !at.IsZero() && a.p.Now().Sub(at) < BeaconFresh, word
}

// run keeps the beacon until ctx ends. Without a prefix in the configuration, or
// a speaker that can, there is none.
func (b *beacons) run(ctx context.Context) {
	if !b.a.p.Config.Beacon.Prefix.IsValid() || b.a.p.Tester == nil {
		return
	}
	tick := time.NewTicker(beaconEvery)
	defer tick.Stop()
	for {
		b.turn(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.end(ctx)
			return
		}
	}
}

// turn hears the other node's beacon, and tells what this one's must say.
func (b *beacons) turn(ctx context.Context) {
	s := b.a.Snapshot()
	other, theirs := "", netip.Prefix{}
	for _, name := range b.a.peerNames(s.State) {
		other, theirs = name, s.State.Nodes[name].Beacon
	}
	sessions := b.a.p.Speaker.Sessions()
	b.mu.Lock()
	v := s.View.Nodes[other]
	b.watch.Tick(b.a.p.Now(), v.Silent() && v != projections.Left)
	b.mu.Unlock()
	if theirs.IsValid() {
		for _, v := range sessions {
			b.hear(v, theirs)
		}
	}
	b.mu.Lock()
	ask, answer := b.watch.Numbers()
	b.mu.Unlock()
	mode := max(slices.Index(beaconModes, s.State.Mode), 0)
	b.tell(ctx, sessions, beacon.NewWord(ask, answer, uint8(mode), uint64(s.State.Head.Epoch)))
}

func (b *beacons) hear(v speaker.Session, prefix netip.Prefix) {
	if v.State != speaker.Established || v.Peer.Is4() != prefix.Addr().Is4() {
		return
	}
	h, err := b.a.p.Tester.Heard(v.Peer, prefix)
	if err != nil || !h.There {
		return
	}
	if w, ok := beacon.Parse(h.Communities); ok {
		b.mu.Lock()
		b.watch.Hear(w)
		b.mu.Unlock()
	}
}

// tell announces the word to every router that has another one, or a new session.
func (b *beacons) tell(ctx context.Context, sessions []speaker.Session, w beacon.Word) {
	prefix := b.a.p.Config.Beacon.Prefix
	for _, v := range sessions {
		now := told{v.Since, prefix, w}
		if v.State != speaker.Established || v.Peer.Is4() != prefix.Addr().Is4() || b.on[v.Peer] == now {
			continue
		}
		at := projections.TestBase()
		at.Communities = w.Communities()
		if err := b.a.p.Tester.Test(ctx, speaker.Route{Peer: v.Peer, Prefix: prefix, Attributes: at}); err != nil {
			b.a.p.Logger.Warn("the beacon is not announced", "event", "beacon.announce", "reason", err, "peer", v.Peer, "prefix", prefix)
		}
		b.on[v.Peer] = now // what failed is tried again when there is something new to say
	}
}

func (b *beacons) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), untestBound)
	defer cancel()
	for peer, t := range b.on {
		if err := b.a.p.Tester.Untest(ctx, peer, t.prefix); err != nil {
			b.a.p.Logger.Debug("the beacon is not withdrawn; the session ends next", "event", "beacon.withdraw", "reason", err, "peer", peer)
		}
	}
}

// beaconOf is what the health rules look at: the other node's beacon, if it is
// known to be alive by that alone.
func (a *Agent) beaconOf(s *Snapshot) string {
	alive, w := a.PeerBeacon()
	for _, name := range a.peerNames(s.State) {
		if alive && s.View.Nodes[name].Silent() {
			mode := "of a mode that this release does not know"
			if int(w.Mode) < len(beaconModes) && w.Mode > 0 {
				mode = beaconModes[w.Mode]
			}
			return fmt.Sprintf("%s is alive, and %s at epoch %d: it answers by its beacon through a router, and is silent on every path between the nodes; try: dyad doctor", name, mode, w.Epoch)
		}
	}
	return ""
}

func beaconAlive(d diagnosis) []string { return when(d.beacon != "", "%s", d.beacon) }

// beaconFindings tell whether the other node's beacon comes through.
func (a *Agent) beaconFindings(s projections.State) []api.Finding {
	own := a.p.Config.Beacon.Prefix
	if !own.IsValid() {
		return nil
	}
	f := api.Finding{Code: "beacon", Subject: own.String(), Result: api.ResultWarning}
	for _, name := range a.peerNames(s) {
		theirs := s.Nodes[name].Beacon
		f.Text, f.Fix = name+" has no beacon", "beacon: in the configuration of both nodes"
		if !theirs.IsValid() {
			continue
		}
		f.Text = fmt.Sprintf("%s does not come back from any router", theirs)
		f.Fix = "have a router send its routes, with communities, to both nodes; dyad doctor --probe-router"
		for _, v := range a.p.Speaker.Sessions() {
			h, err := a.p.Tester.Heard(v.Peer, theirs)
			if _, ok := beacon.Parse(h.Communities); err == nil && ok {
				f.Result, f.Fix = api.ResultOK, ""
				f.Text = fmt.Sprintf("%s of %s comes through %s", theirs, name, v.Peer)
			}
		}
	}
	if f.Text == "" {
		f.Result, f.Text = api.ResultOK, "there is no other node"
	}
	return []api.Finding{f}
}
