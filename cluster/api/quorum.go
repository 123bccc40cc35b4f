package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"dyad/eventlog"
)

// Routes about who may write the log, below /v1; all POST.
const (
	PathTakeover   = "/v1/takeover"     // TakeoverRequest → TakeoverResult
	PathRejoin     = "/v1/rejoin"       // JoinRequest → JoinResponse; from a node of the cluster only
	PathRemoveNode = "/v1/nodes/remove" // RemoveNodeRequest → RemoveNodeResult
	// PathReplaceNode: ReplaceNodeRequest → ReplaceNodeResult.
	PathReplaceNode = "/v1/nodes/replace"
)

// QuorumBackend is the part of a [Backend] that changes who writes the log.
type QuorumBackend interface {
	// Takeover makes this node the only writer, by the caller's word.
	Takeover(ctx context.Context, who Caller, r TakeoverRequest) (TakeoverResult, error)
	// Rejoin admits a node of the cluster again whose store was set aside.
	Rejoin(ctx context.Context, who Caller, r JoinRequest) (JoinResponse, error)
	// RemoveNode takes the other node out of the cluster.
	RemoveNode(ctx context.Context, who Caller, r RemoveNodeRequest) (RemoveNodeResult, error)
	// ReplaceNode takes a dead node out, and lets another machine join for it.
	ReplaceNode(ctx context.Context, who Caller, r ReplaceNodeRequest) (ReplaceNodeResult, error)
}

// TakeoverRequest says that the other node is down.
type TakeoverRequest struct {
	// Peer is the other node's name: the caller confirms that it is down.
	Peer   string `json:"peer"`
	Reason string `json:"reason"`
	// WithoutWitness goes on although the witness can't be asked. The caller
	// vouches that Peer stays off until the witness has been told.
	WithoutWitness bool `json:"without_witness,omitempty"`
	// AcceptLoss goes on from a log that Peer may have gone on without.
	AcceptLoss bool `json:"accept_loss,omitempty"`
	DryRun     bool `json:"dry_run,omitempty"`
}

// TakeoverResult says what became of it, or with DryRun what would.
type TakeoverResult struct {
	Node  string         `json:"node"`
	Mode  string         `json:"mode"`
	Epoch eventlog.Epoch `json:"epoch"`
	// Notes say what may be lost and what happens to the other node.
	Notes  []string `json:"notes"`
	DryRun bool     `json:"dry_run,omitempty"`
}

// RemoveNodeRequest names a node that shall be of the cluster no more.
type RemoveNodeRequest struct {
	Node   string `json:"node"`
	Reason string `json:"reason,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// RemoveNodeResult says what became of it.
type RemoveNodeResult struct {
	Node string `json:"node"`
	// Mode is the log's without it.
	Mode   string         `json:"mode,omitempty"`
	Epoch  eventlog.Epoch `json:"epoch"`
	Seq    eventlog.Seq   `json:"seq"`
	DryRun bool           `json:"dry_run,omitempty"`
}

// ReplaceNodeRequest names a node that is lost, and who comes in its place. It
// can be repeated, with another token.
type ReplaceNodeRequest struct {
	Node string `json:"node"`
	// With is the name of the new machine; empty: the same.
	With string `json:"with,omitempty"`
	// Token is the fingerprint of a join token that the caller has drawn; TTL is
	// how long it is good for.
	Token  string        `json:"token"`
	TTL    time.Duration `json:"ttl_ns"`
	Reason string        `json:"reason,omitempty"`
	DryRun bool          `json:"dry_run,omitempty"`
}

// ReplaceNodeResult says what became of it.
type ReplaceNodeResult struct {
	Node string `json:"node"`
	With string `json:"with"`
	// Removed is false if it was removed before.
	Removed bool           `json:"removed"`
	Epoch   eventlog.Epoch `json:"epoch"`
	Seq     eventlog.Seq   `json:"seq"`
	// API is where the new machine joins, host:port.
	API string `json:"api"`
	// Events are what was handed to the new machine, too.
	Events []eventlog.Public `json:"events" nullable:"false"`
	DryRun bool              `json:"dry_run,omitempty"`
}

func routeQuorum(a huma.API, b QuorumBackend) {
	serve(a, operation("POST", "takeover", PathTakeover, "Go on alone with the log, by an operator's word"),
		func(ctx context.Context, in *input[TakeoverRequest]) (TakeoverResult, error) {
			res, err := b.Takeover(ctx, callerOf(ctx), in.Body)
			res.Notes = full(res.Notes)
			return res, err
		})
	serve(a, operation("POST", "rejoin", PathRejoin, "Admit a node again whose log was set aside; from that node only"),
		func(ctx context.Context, in *input[JoinRequest]) (JoinResponse, error) {
			who := callerOf(ctx)
			if who.Actor.Auth == AuthUnix || who.Actor.Name != in.Body.Node.Name {
				return JoinResponse{}, denied("node-only", "only a node itself asks to be admitted again", "start dyad on that node")
			}
			return b.Rejoin(ctx, who, in.Body)
		})
	serve(a, operation("POST", "remove-node", PathRemoveNode, "Take the other node out of the cluster"),
		func(ctx context.Context, in *input[RemoveNodeRequest]) (RemoveNodeResult, error) {
			return b.RemoveNode(ctx, callerOf(ctx), in.Body)
		})
	serve(a, operation("POST", "replace-node", PathReplaceNode, "Take a dead node out, and let another machine join in its place"),
		func(ctx context.Context, in *input[ReplaceNodeRequest]) (ReplaceNodeResult, error) {
			res, err := b.ReplaceNode(ctx, callerOf(ctx), in.Body)
			res.Events = full(res.Events)
			return res, err
		})
}

// Takeover makes the agent go on alone; see [QuorumBackend].
func (c *Client) Takeover(ctx context.Context, r TakeoverRequest) (TakeoverResult, error) {
	return post[TakeoverResult](ctx, c, PathTakeover, r, joinExtra, "")
}

// Rejoin asks an agent to admit this node again.
func (c *Client) Rejoin(ctx context.Context, r JoinRequest) (JoinResponse, error) {
	return post[JoinResponse](ctx, c, PathRejoin, r, joinExtra, "")
}

// RemoveNode takes the other node out of the cluster.
func (c *Client) RemoveNode(ctx context.Context, r RemoveNodeRequest) (RemoveNodeResult, error) {
	return post[RemoveNodeResult](ctx, c, PathRemoveNode, r, joinExtra, "")
}

// ReplaceNode takes a dead node out, and lets another machine join in its place.
func (c *Client) ReplaceNode(ctx context.Context, r ReplaceNodeRequest) (ReplaceNodeResult, error) {
	return post[ReplaceNodeResult](ctx, c, PathReplaceNode, r, joinExtra, "")
}
