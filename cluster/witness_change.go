package cluster

import (
	"context"
	"errors"
	"fmt"

	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/projections"
)

// How a pair changes its witness.
//
// A node that has not heard of a change asks the old witness, or nobody, while
// the other one asks the new one: each could be told yes. So a witness comes with
// a claim for the epoch after the log's, which it gives to nobody of this epoch.
// The log names it; when both nodes would ask it, also after a restart, the log
// starts that epoch ([Agent.SettleWitness]), and from then on it counts. One that
// goes is moved to the next epoch first, and the log starts that epoch with the
// event that takes it out.
//
// Broken off anywhere, nobody is told yes who would not be at the end, and the
// steward finishes it ([quorum.Raise]).

// keptWitness is the one that this node would ask after a restart.
func (a *Agent) keptWitness() eventlog.Witness {
	if a.p.KeptWitness == nil {
		return a.State().Witness
	}
	return a.p.KeptWitness()
}

// maxMoved bounds how often a change is begun anew because the epoch moved in the
// middle of it: the steward finishes another one, or a node goes.
const maxMoved = 3

func unmoved(change func() (api.Result, error)) (res api.Result, err error) {
	for range maxMoved {
		var refusal *projections.Refusal
		if res, err = change(); !errors.As(err, &refusal) || refusal.Code != projections.CodeEpochMoved {
			break
		}
	}
	return res, err
}

// AddWitness implements [api.Backend]: it checks, registers the claim, and names
// the witness in the log. Broken off anywhere, it is repeated with the same
// result.
func (a *Agent) AddWitness(ctx context.Context, who api.Caller, r api.WitnessRequest) (api.Result, error) {
	return unmoved(func() (api.Result, error) { return a.addWitness(ctx, who, r) })
}

func (a *Agent) addWitness(ctx context.Context, who api.Caller, r api.WitnessRequest) (api.Result, error) {
	if a.p.Witness == nil {
		return api.Result{}, noWitnessHere("witness add")
	}
	w, err := a.p.Witness.Parse(r.URL)
	if err != nil {
		why, fix := parted(err, "dyad witness add https://HOST:PORT#FINGERPRINT")
		return api.Result{}, &api.Error{Class: api.ClassUsage, Code: "witness-url", What: "witness add", Why: why, Fix: fix}
	}
	cmd := projections.SetWitness{URL: w.URL, Fingerprint: w.Fingerprint, Replace: r.Replace}
	req := api.Request{Reason: r.Reason, Key: r.Key, DryRun: r.DryRun, Interface: r.Interface, Client: r.Client, Wait: r.Wait}
	if r.DryRun {
		return a.dryRun(cmd)
	}
	var enrolled quorum.Claim
	if _, err := projections.Decide(a.State(), cmd); err == nil {
		s, err := a.whole(ctx, "witness add")
		if err != nil {
			return api.Result{}, err
		}
		first := claimOf(s)
		if s.Witness != w && first.Mode == quorum.Pair {
			first.Epoch++
		}
		cmd.Epoch = s.Head.Epoch
		if enrolled, err = a.enrol(ctx, w, r.Token, first); err != nil {
			return api.Result{}, err
		}
	}
	// A refusal is recorded there as that of any other command.
	res, err := a.execute(ctx, who, cmd, req)
	if err != nil || enrolled.Mode != quorum.Pair {
		return res, err
	}
	if err := a.settled(ctx, enrolled.Epoch); err != nil || r.Wait == 0 {
		return res, err
	}
	res.Nodes = a.converge(ctx, api.Result{Seq: a.State().Head.Seq}, r.Wait)
	return res, nil
}

func noWitnessHere(what string) error {
	return &api.Error{Class: api.ClassFailed, Code: "witness", What: what, Why: "this node can't reach a witness", Fix: "upgrade dyad on this node"}
}

// enrol registers a claim. A change of this very witness that was broken off
// counts as done.
func (a *Agent) enrol(ctx context.Context, w eventlog.Witness, token string, first quorum.Claim) (quorum.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, enrolBound)
	defer cancel()
	stands, err := a.p.Witness.Enrol(ctx, w, token, first)
	if errors.Is(err, quorum.ErrMoved) && a.State().Witness == w && first.Mode == quorum.Pair && stands.Mode == quorum.Pair && stands.Epoch > first.Epoch {
		return stands, nil
	}
	return stands, enrolError(w, stands, first, err)
}

// removeWitness carries out [projections.RemoveWitness].
func (a *Agent) removeWitness(ctx context.Context, who api.Caller, cmd projections.RemoveWitness, r api.Request) (api.Result, error) {
	w := a.State().Witness
	if _, err := projections.Decide(a.State(), cmd); err != nil || r.DryRun || w.URL == "" {
		return a.execute(ctx, who, cmd, r)
	}
	if a.p.Witness == nil {
		return api.Result{}, noWitnessHere(cmd.Verb())
	}
	s, err := a.whole(ctx, cmd.Verb())
	if err != nil {
		return api.Result{}, err
	}
	last := claimOf(s)
	cmd.Epoch = s.Head.Epoch
	if last.Mode == quorum.Pair {
		last.Epoch++
		// Whatever comes of it: the claim there is another one now.
		defer a.p.Witness.Forget()
		if _, err := a.enrol(ctx, w, "", last); err != nil {
			if e := api.AsError(err); !cmd.Lost || e.Code == "witness-claim" {
				e.Fix = "dyad witness add URL --replace, of another one; or, if it never answers again: dyad witness remove --lost"
				return api.Result{}, e
			}
			a.p.Logger.Warn("the witness is removed without being told", "event", "witness.lost", "reason", err, "url", w.URL)
		}
	}
	return a.execute(ctx, who, cmd, r)
}

// whole is the state of a log that can be written and that every node has
// applied all of.
func (a *Agent) whole(ctx context.Context, what string) (projections.State, error) {
	s := a.State()
	if ok, why := a.writable(a.Snapshot()); !ok {
		return s, notWritable(what, why)
	}
	ctx, cancel := context.WithTimeout(ctx, enrolBound)
	defer cancel()
	for _, name := range a.peerNames(s) {
		if r := a.convergeRemote(ctx, s.Nodes[name], s.Head.Seq, nil); !r.Converged {
			return s, &api.Error{
				Class: api.ClassUnavailable, Code: "not-converged", What: what,
				Why: fmt.Sprintf("both nodes must agree on the witness, and %s is not up to date: %s", name, r.Error),
				Fix: "dyad status, then repeat the command; if " + name + " is lost for good: dyad node remove " + name,
			}
		}
	}
	return s, nil
}

// settled waits until the log has reached an epoch that the witness was told of.
func (a *Agent) settled(ctx context.Context, to eventlog.Epoch) error {
	ctx, cancel := context.WithTimeout(ctx, enrolBound)
	defer cancel()
	for {
		err := a.SettleWitness(ctx, to)
		if err == nil {
			return nil
		}
		if !pause(ctx, convergePoll) {
			return &api.Error{
				Class: api.ClassUnavailable, Code: "witness-unsettled", What: "witness add",
				Why: "the log names it, and it gives the log to nobody until both nodes have taken it over: " + err.Error(),
				Fix: "dyad witness status; the nodes finish it by themselves",
			}
		}
	}
}

// SettleWitness finishes a change of the witness: the log starts the epoch that
// stands there, once every node would ask this witness and no other one.
func (a *Agent) SettleWitness(ctx context.Context, to eventlog.Epoch) error {
	s := a.State()
	if s.Head.Epoch >= to {
		return nil
	}
	if a.keptWitness() != s.Witness {
		return errors.New("this node has not written down which witness it has")
	}
	for _, name := range a.peerNames(s) {
		ws, err := a.p.Peer.Witness(ctx, s.Nodes[name])
		switch {
		case err != nil:
			return err
		case ws.URL != s.Witness.URL || ws.Fingerprint != s.Witness.Fingerprint || !ws.Kept:
			return fmt.Errorf("%s has not taken the witness over yet", name)
		}
	}
	return a.Submit(ctx, projections.RaiseEpoch{To: to, Witness: s.Witness}, "both nodes have taken the witness over")
}
