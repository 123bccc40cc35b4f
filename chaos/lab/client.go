package lab

import (
	"context"
	"fmt"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// askTimeout bounds one question to a node.
const askTimeout = 3 * time.Second

// Client asks one node over its socket, with a connection for each question:
// the node may be killed at any moment.
type Client struct{ node Node }

// Client returns a client of the node's API.
func (n Node) Client() Client { return Client{n} }

func (c Client) ask(f func(*api.Client) error) error {
	a := api.NewClient(api.ClientOptions{Socket: c.node.Socket, Timeout: askTimeout})
	defer a.Close()
	if err := f(a); err != nil {
		return fmt.Errorf("%s: %w", c.node.Name, err)
	}
	return nil
}

// Status is what the node says of itself.
func (c Client) Status(ctx context.Context) (s api.Status, err error) {
	err = c.ask(func(a *api.Client) error {
		items, err := a.Status(ctx, api.ScopeNode)
		if err != nil {
			return err
		}
		for _, i := range items {
			if i.Status != nil {
				s = *i.Status
				return nil
			}
		}
		return fmt.Errorf("it answered without its status")
	})
	return s, err
}

// Services lists the services of the cluster.
func (c Client) Services(ctx context.Context) (out []eventlog.Service, err error) {
	err = c.ask(func(a *api.Client) error {
		out, err = a.Services(ctx)
		return err
	})
	return out, err
}

// Do sends a command to the cluster and waits until both nodes have applied it.
func (c Client) Do(ctx context.Context, cmd projections.Command, reason string) error {
	return c.ask(func(a *api.Client) error {
		_, err := a.Do(ctx, cmd, api.Request{Reason: reason, Interface: "lab", Wait: askTimeout})
		return err
	})
}

// Events are the events of the log that a query selects.
func (c Client) Events(ctx context.Context, q audit.Query) (out []eventlog.Public, err error) {
	err = c.ask(func(a *api.Client) error {
		out, err = a.Events(ctx, q)
		return err
	})
	return out, err
}

// RecordFact puts a drill's fact into the node's journal.
func (c Client) RecordFact(ctx context.Context, f api.FactRequest) error {
	return c.ask(func(a *api.Client) error { return a.RecordFact(ctx, f) })
}
