package node

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
)

// remote asks the other node's API, as this node.
type remote struct {
	tls *tls.Config

	mu      sync.Mutex
	clients map[string]*api.Client // by address; there are at most two nodes
}

func newRemote(conf *tls.Config) *remote {
	return &remote{tls: conf, clients: map[string]*api.Client{}}
}

func (r *remote) client(n eventlog.Node) (*api.Client, error) {
	if n.API == "" {
		return nil, errors.New(n.Name + " has not said where its API is")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.clients[n.API]
	if !ok {
		c = api.NewClient(api.ClientOptions{Address: n.API, TLS: r.tls})
		r.clients[n.API] = c
	}
	return c, nil
}

// Status implements cluster.Remote.
func (r *remote) Status(ctx context.Context, n eventlog.Node) (api.Status, error) {
	c, err := r.client(n)
	if err != nil {
		return api.Status{}, err
	}
	list, err := c.Status(ctx, "node")
	if err != nil {
		return api.Status{}, err
	}
	if len(list) != 1 || list[0].Status == nil {
		return api.Status{}, errors.New(n.Name + " gave no status")
	}
	return *list[0].Status, nil
}

// Announcements implements cluster.Remote.
func (r *remote) Announcements(ctx context.Context, n eventlog.Node) ([]projections.Announcement, error) {
	c, err := r.client(n)
	if err != nil {
		return nil, err
	}
	list, err := c.Announcements(ctx, "node")
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, errors.New(n.Name + " gave no announcements")
	}
	return list[0].Items, nil
}

// Witness implements cluster.Remote.
func (r *remote) Witness(ctx context.Context, n eventlog.Node) (api.WitnessStatus, error) {
	c, err := r.client(n)
	if err != nil {
		return api.WitnessStatus{}, err
	}
	list, err := c.Witnesses(ctx, "node")
	if err != nil {
		return api.WitnessStatus{}, err
	}
	if len(list) != 1 {
		return api.WitnessStatus{}, errors.New(n.Name + " did not say what it sees at the witness")
	}
	return list[0], nil
}

// Segments implements cluster.Remote.
func (r *remote) Segments(ctx context.Context, n eventlog.Node) ([]api.Segment, error) {
	c, err := r.client(n)
	if err != nil {
		return nil, err
	}
	return c.Segments(ctx)
}

// Segment implements cluster.Remote.
func (r *remote) Segment(ctx context.Context, n eventlog.Node, first eventlog.Seq) ([]byte, error) {
	c, err := r.client(n)
	if err != nil {
		return nil, err
	}
	return c.Segment(ctx, first, 0)
}

// Doctor implements cluster.Remote.
func (r *remote) Doctor(ctx context.Context, n eventlog.Node) (api.Examination, error) {
	c, err := r.client(n)
	if err != nil {
		return api.Examination{}, err
	}
	list, err := c.Doctor(ctx, "node")
	if err != nil {
		return api.Examination{}, err
	}
	if len(list) != 1 {
		return api.Examination{}, errors.New(n.Name + " did not examine itself")
	}
	return list[0], nil
}

// TestRoute implements cluster.Remote.
func (r *remote) TestRoute(ctx context.Context, n eventlog.Node, t api.TestRouteRequest) (api.TestRouteAnswer, error) {
	c, err := r.client(n)
	if err != nil {
		return api.TestRouteAnswer{}, err
	}
	return c.TestRoute(ctx, t)
}

func (r *remote) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clients {
		c.Close()
	}
}
