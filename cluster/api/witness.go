package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"dyad/cluster/quorum"
)

// PathWitness: GET ?scope → []WitnessStatus; POST WitnessRequest → Result.
const PathWitness = "/v1/witness"

// WitnessRequest asks to register the cluster's claim at a witness, and then to
// name it in the log. The token never leaves the agent but to the witness.
type WitnessRequest struct {
	// URL is https://host:port#FINGERPRINT, file:///directory/ or etcd://….
	URL string `json:"url"`
	// Token is what a witness that takes new clusters by token wants.
	Token string `json:"token,omitempty"`
	// Replace puts it in the place of the witness that the cluster has.
	Replace bool `json:"replace,omitempty"`
	// The rest is as in a Request.
	Reason    string        `json:"reason,omitempty"`
	Key       string        `json:"key,omitempty"`
	DryRun    bool          `json:"dry_run,omitempty"`
	Interface string        `json:"interface,omitempty"`
	Client    string        `json:"client,omitempty"`
	Wait      time.Duration `json:"wait_ns,omitempty"`
}

// WitnessStatus is what one node sees at the cluster's witness.
type WitnessStatus struct {
	Node string `json:"node"`
	// URL is empty if the cluster has no witness.
	URL         string `json:"url,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Kind        string `json:"kind,omitempty"`    // https, file, etcd
	Release     string `json:"release,omitempty"` // of a witness server
	// Latency is how long the answer took.
	Latency time.Duration `json:"latency_ns,omitempty"`
	// Claim is what stands there; absent if nobody could say.
	Claim *quorum.Claim `json:"claim,omitempty"`
	// Kept: this node would ask this witness after a restart too.
	Kept bool `json:"kept"`
	// Matches is true if the claim is that of this node's log; Why says what
	// differs or what failed, and what to do.
	Matches bool   `json:"matches"`
	Why     string `json:"why,omitempty"`
}

// Witnesses asks what nodes see at the witness; scope as in [Client.Status].
func (c *Client) Witnesses(ctx context.Context, scope string) ([]WitnessStatus, error) {
	return getList[WitnessStatus](ctx, c, PathWitness, scopeValues(scope))
}

// AddWitness registers the cluster at a witness and names it in the log.
func (c *Client) AddWitness(ctx context.Context, r WitnessRequest) (Result, error) {
	return post[Result](ctx, c, PathWitness, r, max(r.Wait, 0), r.Key)
}

func routeWitness(a huma.API, b Backend) {
	items(a, operation("GET", "witness", PathWitness, "What nodes see at the cluster's witness"),
		func(ctx context.Context, in *scopeInput) ([]WitnessStatus, error) {
			return b.Witness(ctx, in.Scope == ScopeCluster), nil
		})
	serve(a, operation("POST", "witness-add", PathWitness, "Register the cluster's claim at a witness, and name it in the log"),
		func(ctx context.Context, in *input[WitnessRequest]) (Result, error) {
			if in.Body.Wait < 0 || in.Body.Wait > MaxWait {
				return Result{}, usage("wait", "wait_ns", "it is not between 0 and "+MaxWait.String(), "wait for less")
			}
			res, err := b.AddWitness(ctx, callerOf(ctx), in.Body)
			res.Events = full(res.Events)
			return res, err
		})
}
