package netlab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// watchQueue bounds the route changes that wait for WatchMoves.
const watchQueue = 16384

// watchBuffer is the socket's receive buffer, in bytes: a router changes
// thousands of routes at once.
const watchBuffer = 16 << 20

// WatchMoves notes, until ctx ends, when each route inside pool stopped going
// to away: the times in the order the kernel told. A route that is removed has
// not moved.
func WatchMoves(ctx context.Context, ns string, pool netip.Prefix, away netip.Addr) ([]time.Time, error) {
	table, err := Table(ns)
	if err != nil {
		return nil, err
	}
	n, err := netns.GetFromName(ns)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", ns, err)
	}
	defer func() { _ = n.Close() }()
	updates, done := make(chan netlink.RouteUpdate, watchQueue), make(chan struct{})
	defer close(done)
	var lost error
	err = netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{
		Namespace: &n, ReceiveBufferSize: watchBuffer, ErrorCallback: func(e error) { lost = e },
	})
	if err != nil {
		return nil, fmt.Errorf("follow the routes of %s: %w", ns, err)
	}
	there := map[netip.Prefix]bool{}
	for p, hops := range table {
		there[p] = slices.Contains(hops, away)
	}
	var moved []time.Time
	for {
		select {
		case u, ok := <-updates:
			if !ok {
				return moved, fmt.Errorf("the kernel stopped telling about the routes of %s: %w", ns, lost)
			}
			if u.Dst == nil || u.Type != rtmNewRoute || !pool.Contains(prefixOf(u.Dst).Addr()) {
				continue
			}
			p, now := prefixOf(u.Dst), slices.Contains(nextHops(u.Route), away)
			if there[p] && !now {
				moved = append(moved, time.Now())
			}
			there[p] = now
		case <-ctx.Done():
			return moved, nil
		}
	}
}

// rtmNewRoute is RTM_NEWROUTE of rtnetlink(7).
const rtmNewRoute = 24
