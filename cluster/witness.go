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
	case stands.Epoch > own.Epoch:
		return false, fmt.Sprintf("%s stands, and this node's log is at epoch %d: it is behind", stands, own.Epoch)
	}
	return false, fmt.Sprintf("%s stands, and this node's log says %s", stands, own)
}

// AddWitness implements [api.Backend]: it checks, registers the claim, and names
// the witness in the log. Broken off anywhere, it is repeated with the same
// result: a witness that no event names is asked by nobody.
func (a *Agent) AddWitness(ctx context.Context, who api.Caller, r api.WitnessRequest) (api.Result, error) {
	if a.p.Witness == nil {
		return api.Result{}, &api.Error{Class: api.ClassFailed, Code: "witness", What: "witness add", Why: "this node can't reach a witness", Fix: "upgrade dyad on this node"}
	}
	w, err := a.p.Witness.Parse(r.URL)
	if err != nil {
		why, fix := parted(err, "dyad witness add https://HOST:PORT#FINGERPRINT")
		return api.Result{}, &api.Error{Class: api.ClassUsage, Code: "witness-url", What: "witness add", Why: why, Fix: fix}
	}
	cmd := projections.SetWitness(w)
	req := api.Request{Reason: r.Reason, Key: r.Key, DryRun: r.DryRun, Interface: r.Interface, Client: r.Client, Wait: r.Wait}
	if r.DryRun {
		return a.dryRun(cmd)
	}
	var enrolled quorum.Claim
	if _, err := projections.Decide(a.State(), cmd); err == nil {
		if enrolled, err = a.enrol(ctx, w, r.Token); err != nil {
			return api.Result{}, err
		}
	}
	// A refusal is recorded there as that of any other command.
	res, err := a.execute(ctx, who, cmd, req)
	if err == nil && !enrolled.Same(claimOf(a.State())) {
		// The set of writers changed between the two steps.
		_, err = a.enrol(ctx, w, r.Token)
	}
	return res, err
}

// enrol registers this node's claim.
//
// Invariant: the log can be written, and both nodes have applied all of it. So no
// node still holds another witness for the cluster's.
func (a *Agent) enrol(ctx context.Context, w eventlog.Witness, token string) (quorum.Claim, error) {
	if ok, why := a.writable(a.Snapshot()); !ok {
		return quorum.Claim{}, notWritable("witness add", why)
	}
	ctx, cancel := context.WithTimeout(ctx, enrolBound)
	defer cancel()
	s := a.State()
	for name, n := range s.Nodes {
		if name == a.p.Config.Node {
			continue
		}
		if r := a.convergeRemote(ctx, n, s.Head.Seq, nil); !r.Converged {
			return quorum.Claim{}, &api.Error{
				Class: api.ClassUnavailable, Code: "not-converged", What: "witness add",
				Why: fmt.Sprintf("both nodes must agree on the witness, and %s is not up to date: %s", name, r.Error),
				Fix: "dyad status, then repeat the command",
			}
		}
	}
	stands, err := a.p.Witness.Enrol(ctx, w, token, claimOf(s))
	return stands, enrolError(w, stands, claimOf(s), err)
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
