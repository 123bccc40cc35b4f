package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
)

// Bounds of the questions about a witness.
const (
	// witnessBound is for one question, shorter than another node waits for the
	// answer (remoteBound).
	witnessBound = remoteBound - 500*time.Millisecond
	// enrolBound is for a registration, and the wait for the other node before it.
	enrolBound = 10 * time.Second
)

// Witness reaches the place where the cluster's claim lies
// (dyad/cluster/witness).
type Witness interface {
	// Parse checks a URL and tells what the log may hold of it.
	Parse(url string) (eventlog.Witness, error)
	// Enrol registers a claim (quorum.Enrol). The token may be empty.
	Enrol(ctx context.Context, w eventlog.Witness, token string, now quorum.Claim) (quorum.Claim, error)
	// Check asks what stands. Node, Matches and Why are left to the caller.
	Check(ctx context.Context, w eventlog.Witness, cluster string) (api.WitnessStatus, error)
	// Forget: what was last heard of the claim is out of date.
	Forget()
}

// claimOf is the claim that a state stands for.
func claimOf(s projections.State) quorum.Claim {
	c := quorum.Claim{
		Cluster: s.Cluster, Epoch: s.Head.Epoch, Mode: quorum.Mode(s.Mode), Seq: s.Head.Seq, Hash: s.Head.Hash,
	}
	if c.Mode != quorum.Pair && len(s.Writers) == 1 {
		c.Holder = s.Writers[0]
	}
	return c
}

// Witness implements [api.Backend].
func (a *Agent) Witness(ctx context.Context, cluster bool) []api.WitnessStatus {
	own := a.ownWitness(ctx)
	out := []api.WitnessStatus{own}
	if !cluster {
		return out
	}
	for name, ans := range others(ctx, a, a.p.Peer.Witness) {
		ws := ans.v
		if ans.err != nil {
			ws = api.WitnessStatus{URL: own.URL, Why: brief(ans.err)}
		}
		ws.Node = name
		out = append(out, ws)
	}
	slices.SortFunc(out, func(x, y api.WitnessStatus) int { return compareNames(x.Node, y.Node) })
	return out
}

func (a *Agent) ownWitness(ctx context.Context) api.WitnessStatus {
	s := a.State()
	out := api.WitnessStatus{Node: a.p.Config.Node, URL: s.Witness.URL, Fingerprint: s.Witness.Fingerprint}
	out.Kept = a.keptWitness() == s.Witness
	switch {
	case out.URL == "":
		out.Why = "the cluster has no witness; dyad witness add URL"
		return out
	case a.p.Witness == nil:
		out.Why = "this node can't ask one"
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, witnessBound)
	defer cancel()
	got, err := a.p.Witness.Check(ctx, s.Witness, s.Cluster)
	out.Kind, out.Release, out.Latency, out.Claim = got.Kind, got.Release, got.Latency, got.Claim
	out.Matches, out.Why = matches(claimOf(s), got.Claim, err)
	return out
}

// matches compares what a node's log says with what stands at the witness.
func matches(own quorum.Claim, stands *quorum.Claim, err error) (ok bool, why string) {
	switch {
	case errors.Is(err, quorum.ErrUnknown):
		return false, err.Error() + "; dyad witness add URL registers it again"
	case err != nil:
		return false, strings.ReplaceAll(err.Error(), "\n  try: ", "; ")
	case stands == nil:
		return false, "it gave no claim"
	case stands.Same(own):
		return true, ""
	case stands.Epoch > own.Epoch && stands.Mode == quorum.Pair:
		return false, fmt.Sprintf("%s stands, and this node's log is at epoch %d: the witness counts when both nodes have taken it over", stands, own.Epoch)
	case stands.Epoch > own.Epoch:
		return false, fmt.Sprintf("%s stands, and this node's log is at epoch %d: it is behind", stands, own.Epoch)
	}
	return false, fmt.Sprintf("%s stands, and this node's log says %s", stands, own)
}

func enrolError(w eventlog.Witness, stands, own quorum.Claim, err error) error {
	e := &api.Error{Class: api.ClassFailed, Code: "witness", What: "witness " + w.URL}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, quorum.ErrMoved):
		e.Class, e.Code = api.ClassRefused, "witness-claim"
		e.Why = fmt.Sprintf("%s stands there, and this node's log says %s", stands, own)
		e.Fix = "dyad status on both nodes: another one may have gone on alone"
	case errors.Is(err, quorum.ErrDenied):
		e.Class, e.Code = api.ClassDenied, "witness-denied"
		e.Why, e.Fix = parted(err, "dyad witness list, on the witness, and its log")
	case errors.Is(err, quorum.ErrUnavailable):
		e.Class, e.Code = api.ClassUnavailable, "witness-silent"
		e.Why, e.Fix = parted(err, "look at the witness, then repeat the command")
	default:
		e.Why, e.Fix = parted(err, "dyad status, then repeat the command")
	}
	return e
}

// parted takes an error's own advice apart from its reason; fix is for one that
// has none.
func parted(err error, fix string) (string, string) {
	why, own, ok := strings.Cut(err.Error(), "\n  try: ")
	if ok {
		return why, own
	}
	return why, fix
}
