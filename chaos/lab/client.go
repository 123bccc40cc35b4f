package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"dyad/cluster/api"
	"dyad/eventlog"
)

const (
	// askTimeout bounds one question to a node.
	askTimeout = 3 * time.Second
	// maxAnswer bounds what is read of one answer, in bytes.
	maxAnswer = 32 << 20
)

// Client asks one node over its socket.
type Client struct {
	node Node
	http *http.Client
}

// Client returns a client of the node's API.
func (n Node) Client() *Client {
	return &Client{node: n, http: &http.Client{Timeout: askTimeout, Transport: &http.Transport{
		DisableKeepAlives: true, // the node may be killed at any moment
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", n.Socket)
		},
	}}}
}

// Status is what the node says of itself.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	var out struct {
		Items []api.NodeStatus `json:"items"`
	}
	if err := c.do(ctx, http.MethodGet, api.PathStatus+"?scope=node", nil, &out); err != nil {
		return api.Status{}, err
	}
	for _, i := range out.Items {
		if i.Status != nil {
			return *i.Status, nil
		}
	}
	return api.Status{}, fmt.Errorf("%s answered without its status", c.node.Name)
}

// Services lists the services of the cluster.
func (c *Client) Services(ctx context.Context) ([]eventlog.Service, error) {
	var out struct {
		Items []eventlog.Service `json:"items"`
	}
	return out.Items, c.do(ctx, http.MethodGet, api.PathServices, nil, &out)
}

// RecordFact puts a drill's fact into the node's journal.
func (c *Client) RecordFact(ctx context.Context, f api.FactRequest) error {
	return c.do(ctx, http.MethodPost, api.PathFacts, f, nil)
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode a question to %s: %w", c.node.Name, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.node.Name+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.node.Name, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.node.Name, err)
	}
	if res.StatusCode/100 != 2 {
		var e api.Error
		if json.Unmarshal(b, &e) == nil && e.What != "" {
			return fmt.Errorf("%s: %w", c.node.Name, &e)
		}
		return fmt.Errorf("%s answers %s to %s %s: %s", c.node.Name, res.Status, method, path, b)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the answer of %s to %s cannot be read: %w", c.node.Name, path, err)
	}
	return nil
}
