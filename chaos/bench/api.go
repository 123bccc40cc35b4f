package bench

import (
	"context"
	"net"
	"path/filepath"
	"time"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cluster/api"
	"dyad/cluster/identity"
)

// throughput sends commands to one agent of a pair from 64 clients, each with a
// connection of its own, over mutual TLS, from the other node.
func throughput(ctx context.Context, o Options, r *Recorder) error {
	return withLab(ctx, o, func(l *lab.Lab) error {
		if err := l.Prepare(ctx); err != nil {
			return err
		}
		clients, done, err := remoteClients(ctx, l)
		if err != nil {
			return err
		}
		defer done()
		if _, err := clients[0].Do(ctx, groupPools(), api.Request{Wait: scaleWait}); err != nil {
			return err
		}
		var rates, latency []float64
		for range groupRounds {
			rate, took, err := crowd(ctx, func(ctx context.Context, w, i int) error {
				_, err := clients[w].Do(ctx, toggle(w, i), api.Request{Interface: "bench"})
				return err
			})
			if err != nil {
				return err
			}
			rates, latency = append(rates, rate), append(latency, took...)
		}
		r.Spread("api/command", "ms", latency)
		r.Figure("api/rate", median(rates), "commands/s", groupRounds)
		return nil
	})
}

// remoteClients are clients of node A that dial from node B, with a certificate
// of their own.
func remoteClients(ctx context.Context, l *lab.Lab) (out []*api.Client, done func(), err error) {
	dir := filepath.Join(l.Dir, "bench-operator")
	if _, err := l.Dyad(ctx, netlab.NodeA, "cert", "issue", "bench", "--role", "operator", "--out", dir); err != nil {
		return nil, nil, err
	}
	conf, err := identity.UserFiles(dir).Load()
	if err != nil {
		return nil, nil, err
	}
	n, err := l.Node(netlab.NodeA)
	if err != nil {
		return nil, nil, err
	}
	list, err := n.Client().Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	dial := func(_ context.Context, network, address string) (c net.Conn, err error) {
		err = netlab.Do(l.NS(netlab.NodeB), func() error {
			c, err = net.DialTimeout(network, address, time.Second)
			return err
		})
		return c, err
	}
	at := ""
	for _, node := range list.Nodes {
		if node.Name == netlab.NodeA {
			at = node.API
		}
	}
	for range groupWriters {
		out = append(out, api.NewClient(api.ClientOptions{Address: at, TLS: conf, Dial: dial}))
	}
	return out, func() {
		for _, c := range out {
			c.Close()
		}
	}, nil
}
