package api

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"dyad/eventlog"
	"dyad/projections"
	"dyad/projections/audit"
)

// Defaults and bounds of a [Client].
const (
	// DefaultTimeout bounds one request; it is above the agent's own bound for
	// an append.
	DefaultTimeout = 15 * time.Second
	// joinExtra is what a join may take longer: the store waits until its
	// members have known each other for a while.
	joinExtra = time.Minute
	dialBound = 3 * time.Second
	// maxConns bounds the connections of one client.
	maxConns = 16
	// maxAnswer bounds an answer and maxLine a line of a stream, in bytes.
	maxAnswer = 256 << 20
	maxLine   = 16 << 20
)

// ClientOptions say which agent a [Client] talks to.
type ClientOptions struct {
	// Socket is the agent's unix socket. Used if Address is empty.
	Socket string
	// Address is host:port of an agent on another node; it needs TLS.
	Address string
	// TLS shows this caller's certificate, and verifies the agent's.
	TLS *tls.Config
	// Dial makes the connections; default: net.Dialer in this process's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one request; 0 is DefaultTimeout. Waiting that a command
	// asks for comes on top, and a stream has no bound.
	Timeout time.Duration
}

// Client talks to one agent. Its methods may be called by several goroutines.
// Every error is an *[Error]; its class decides the exit code.
type Client struct {
	o    ClientOptions
	base string
	http *http.Client
	tr   *http.Transport
}

// NewClient prepares a client; nothing is dialled before the first request.
func NewClient(o ClientOptions) *Client {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	tr := &http.Transport{MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns, IdleConnTimeout: idleBound / 2}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: dialBound}).DialContext
	}
	base := "https://" + o.Address
	if o.Address == "" {
		base = "http://dyad" // the host of a unix socket is a name only
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return o.Dial(ctx, "unix", o.Socket)
		}
	} else {
		tr.DialContext, tr.TLSClientConfig = o.Dial, o.TLS
	}
	return &Client{o: o, base: base, tr: tr, http: &http.Client{Transport: tr}}
}

// Close ends the connections that wait for a next request.
func (c *Client) Close() { c.tr.CloseIdleConnections() }

// Status asks what nodes say of themselves; scope is ScopeNode or ScopeCluster,
// empty for the latter.
func (c *Client) Status(ctx context.Context, scope string) ([]NodeStatus, error) {
	return getList[NodeStatus](ctx, c, PathStatus, scopeValues(scope))
}

// Command sends a request as it is.
func (c *Client) Command(ctx context.Context, r Request) (Result, error) {
	return post[Result](ctx, c, PathCommand, r, max(r.Wait, 0), r.Key)
}

// Do sends a command; Verb and Args of r are set from it.
func (c *Client) Do(ctx context.Context, cmd projections.Command, r Request) (Result, error) {
	var err error
	if r.Verb, r.Args, err = EncodeCommand(cmd); err != nil {
		return Result{}, AsError(err)
	}
	return c.Command(ctx, r)
}

// Switches lists the switches, sorted by name.
func (c *Client) Switches(ctx context.Context) ([]SwitchView, error) {
	return getList[SwitchView](ctx, c, PathSwitches, nil)
}

// Peers lists the peers, sorted by switch and address.
func (c *Client) Peers(ctx context.Context) ([]eventlog.Peer, error) {
	return getList[eventlog.Peer](ctx, c, PathPeers, nil)
}

// Pools lists the pools, sorted by name.
func (c *Client) Pools(ctx context.Context) ([]PoolView, error) {
	return getList[PoolView](ctx, c, PathPools, nil)
}

// Services lists the services, sorted by name.
func (c *Client) Services(ctx context.Context) ([]eventlog.Service, error) {
	return getList[eventlog.Service](ctx, c, PathServices, nil)
}

// Nodes lists the nodes, sorted by name.
func (c *Client) Nodes(ctx context.Context) ([]eventlog.Node, error) {
	return getList[eventlog.Node](ctx, c, PathNodes, nil)
}

// Announcements asks what nodes announce; scope as in [Client.Status].
func (c *Client) Announcements(ctx context.Context, scope string) ([]NodeAnnouncements, error) {
	return getList[NodeAnnouncements](ctx, c, PathAnnouncements, scopeValues(scope))
}

// Events asks the audit log, oldest first.
func (c *Client) Events(ctx context.Context, q audit.Query) ([]eventlog.Public, error) {
	return getList[eventlog.Public](ctx, c, PathEvents, values(q))
}

// Explain asks why an address is announced or not.
func (c *Client) Explain(ctx context.Context, addr netip.Addr) (Explanation, error) {
	return get[Explanation](ctx, c, PathExplain+"/"+url.PathEscape(addr.String()), nil)
}

// RecordFact puts a drill's fact into the agent's journal.
func (c *Client) RecordFact(ctx context.Context, f FactRequest) error {
	_, err := post[nothing](ctx, c, PathFacts, f, 0, "")
	return err
}

func scopeValues(scope string) url.Values {
	if scope == "" {
		return nil
	}
	return url.Values{"scope": {scope}}
}
