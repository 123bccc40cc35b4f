package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/eventlog"
)

// Bounds of the deeds.
const (
	// reformBound is how long a store may take to come up as one of one.
	reformBound = 30 * time.Second
	// leaveBound is how long each step of leaving may take.
	leaveBound = 2 * time.Second
)

type deed = func(context.Context, quorum.Move) (*quorum.Record, error)

func (p *process) deeds() map[quorum.Deed]deed {
	return map[quorum.Deed]deed{
		quorum.Reform: p.reform, quorum.Return: p.comeBack, quorum.Pairup: p.pairUp, quorum.Leave: p.leave, quorum.Shed: p.shed,
		quorum.AskWitness: p.swap, quorum.TellWitness: p.swap, quorum.AskFence: p.fenceOff,
		quorum.Raise: p.raise,
		quorum.Widen: p.widen, quorum.Enlist: p.enlist, quorum.Narrow: p.narrow,
	}
}

// reform makes this node the only voter of its store. It may be broken off and
// begun again at any point.
func (p *process) reform(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, reformBound)
	defer cancel()
	began := time.Now()
	how, before, err := p.goAlone(ctx, m)
	if err != nil || before != nil {
		return before, err
	}
	if err := p.file.update(func(s *etcdnode.State) { s.Members = p.alone() }); err != nil {
		return nil, err
	}
	up := time.Now()
	if given, err := p.handedOver(ctx, m.Record); err != nil || given != nil {
		return given, err
	}
	epoch, err := p.startEpoch(ctx, epochStart{
		lowest: m.Epoch, mode: quorum.Sole, writers: []string{p.cfg.Node}, key: fmt.Sprintf("takeover/%s/%d", p.cfg.Node, m.Epoch),
		reason: "the other node is gone; by the word of the " + string(m.Record.By),
	})
	if err != nil {
		return nil, err
	}
	p.opts.Log.Info("this node writes the log alone", "event", "store.reformed", "reason", "by the word of the "+string(m.Record.By),
		"epoch", epoch, "how", how, "store", up.Sub(began), "took", time.Since(began))
	return &quorum.Record{Mode: quorum.Sole, Epoch: epoch}, nil
}

// goAlone makes this node the only voter of its store, and tells how; or what this
// node is instead.
func (p *process) goAlone(ctx context.Context, m quorum.Move) (how string, instead *quorum.Record, err error) {
	running := p.store.Part(ctx)
	if running != nil {
		if err := p.store.Kill(ctx); err != nil {
			return "", nil, err
		}
	}
	if before, late := p.tooLate(m.Record); late {
		if before.Writes() {
			return "", &before, p.store.Restart(ctx, p.serve())
		}
		return "", &before, p.store.Kill(ctx)
	}
	if running == nil {
		running = p.store.GoAlone(ctx, m.Epoch)
	}
	if running == nil {
		return "without a restart", nil, nil
	}
	tail, err := p.restartAlone(ctx, m.Epoch)
	if errors.Is(err, etcdnode.ErrNotVoter) || errors.Is(err, etcdnode.ErrNoStore) {
		// It has no vote to go on with. What is left here is set aside.
		p.opts.Log.Error("this node can't take the log over", "event", "store.reform", "reason", err)
		return "", &quorum.Record{Mode: quorum.Stale, Epoch: m.Record.Epoch}, nil
	}
	return running.Error() + "; " + tail.String(), nil, err
}

// tooLate ends a grant that is not exclusive, and goes on as before, if the other
// node was heard before this one's store parted from it: the two may have written
// together meanwhile, and then the other one takes itself for up to date when it
// loses this one.
func (p *process) tooLate(r quorum.Record) (before quorum.Record, late bool) {
	if r.Exclusive() || !p.looks.peerIsBack() {
		return before, false
	}
	if begun, err := etcdnode.Begun(storeDir(p.cfg), r.Next, r.Mode != quorum.Stale); begun || err != nil {
		return before, false // it can't be undone; what can't be read is refused by KeepTail
	}
	before = quorum.Boot(r, false)
	p.opts.Log.Warn("this node does not take the log over", "event", "store.void",
		"reason", "the other node came back before the store was begun anew", "mode", string(before.Mode), "epoch", before.Epoch)
	return before, true
}

// restartAlone starts the store anew as one of this member alone, and waits until
// it answers.
func (p *process) restartAlone(ctx context.Context, epoch eventlog.Epoch) (t etcdnode.Tail, err error) {
	if err := p.store.Kill(ctx); err != nil {
		return t, err
	}
	if t, err = etcdnode.KeepTail(storeDir(p.cfg)); err != nil {
		return t, err
	}
	serve := p.serve()
	serve.Force, serve.Join, serve.Members = epoch, false, p.alone()
	if err := p.store.Restart(ctx, serve); err != nil {
		return t, err
	}
	if err := p.store.WaitReady(ctx); err != nil {
		return t, err
	}
	etcdnode.Reconnect(p.client)
	return t, nil
}

// alone is the store's only member: this one.
func (p *process) alone() map[string]string {
	return map[string]string{p.cfg.Node: peerURL(p.cfg)}
}

// handedOver looks for a start of an epoch in the tail that gives the log to the
// other node alone: this one was leaving, or being removed, when it lost the
// other. That may have been committed, and the other one may have gone on. Only a
// witness knows that it did not.
//
// Invariant: nothing was appended since this node is the only voter, so the store
// can be set aside without losing anything: while a takeover is under way neither
// intents nor facts are taken.
func (p *process) handedOver(ctx context.Context, r quorum.Record) (*quorum.Record, error) {
	at, err := p.log.Newest(ctx)
	if err != nil || at.Epoch <= r.Epoch || r.By == quorum.ByWitness {
		return nil, err
	}
	events, err := p.log.Read(ctx, at.Seq-min(at.Seq, eventlog.MaxPage), eventlog.MaxPage)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(events) {
		if e.Type != eventlog.TypeEpochStarted {
			continue
		}
		started, err := eventlog.Payload[eventlog.EpochPayload](e.Draft)
		if err != nil || slices.Contains(started.Writers, p.cfg.Node) {
			return nil, err
		}
		p.opts.Log.Error("the log was handed to the other node before it was lost", "event", "store.reform",
			"reason", "the tail of the store says so", "epoch", e.Epoch)
		return &quorum.Record{Mode: quorum.Stale, Epoch: e.Epoch}, p.store.Kill(ctx)
	}
	return nil, nil
}

// epochStart is the start of an epoch that is to be appended.
type epochStart struct {
	// basis is the epoch the log must be at; 0: whichever it is at. Only who is
	// the only voter may do without.
	basis   eventlog.Epoch
	lowest  eventlog.Epoch // of the new one
	mode    quorum.Mode
	writers []string
	key     string // with the same key it happens once
	reason  string
}

// startEpoch appends the start of an epoch, and tells which it became: lowest,
// or the next one that is free.
//
// Invariant: with a basis nothing is appended behind a change of writers that
// this node has not taken in. Two nodes that leave at the same moment would
// otherwise hand the log to each other, and nobody would have it.
func (p *process) startEpoch(ctx context.Context, s epochStart) (eventlog.Epoch, error) {
	at, err := p.log.Newest(ctx)
	if err != nil {
		return 0, err
	}
	basis := s.basis
	if basis == 0 {
		basis = at.Epoch
	}
	epoch := max(s.lowest, basis+1)
	d, err := eventlog.NewDraft(eventlog.TypeEpochStarted, "epoch", eventlog.EpochPayload{
		Epoch: epoch, Mode: string(s.mode), Writers: s.writers,
	}, nil)
	if err != nil {
		return 0, err
	}
	d.ID, d.Key, d.Reason, d.Evidence = newID(), s.key, s.reason, p.file.get().Evidence
	d.Actor = eventlog.Actor{Name: p.cfg.Node, Auth: "system"}
	d.Source = eventlog.Source{Node: p.cfg.Node, Address: p.cfg.Address, Interface: "machine", Client: "dyad/" + p.opts.Version}
	_, err = p.log.Append(ctx, eventlog.Batch{Drafts: []eventlog.Draft{d}, Epoch: basis})
	var dup *eventlog.DuplicateError
	switch {
	case err == nil:
		return epoch, nil
	case errors.As(err, &dup):
		return p.epochAt(ctx, dup.Seq)
	}
	return 0, err
}

// epochAt is the epoch of an event.
func (p *process) epochAt(ctx context.Context, seq eventlog.Seq) (eventlog.Epoch, error) {
	events, err := p.log.Read(ctx, seq-1, 1)
	if err != nil {
		return 0, err
	}
	if len(events) != 1 {
		return 0, fmt.Errorf("%w: event %d is not there", eventlog.ErrGap, seq)
	}
	return events[0].Epoch, nil
}

// comeBack sets the store aside and asks the peer to admit this node anew.
func (p *process) comeBack(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	if err := p.store.Kill(ctx); err != nil {
		return nil, err
	}
	path, err := etcdnode.Archive(p.cfg.DataDir, storeDir(p.cfg), m.Record.Epoch, time.Now())
	if err != nil && !errors.Is(err, etcdnode.ErrNoStore) {
		return nil, err
	}
	c, err := p.remote.client(p.peerNode())
	if err != nil {
		return nil, err
	}
	r, err := c.Rejoin(ctx, api.JoinRequest{Node: ownNode(p.cfg, p.opts.Version), PeerURL: peerURL(p.cfg)})
	if err != nil {
		return nil, err
	}
	// The new store knows nothing yet, and may hold less than the old one did.
	p.log.Forget()
	next := quorum.Record{Mode: quorum.Joining, Epoch: r.Epoch}
	err = p.file.update(func(s *etcdnode.State) {
		s.SetRecord(next)
		s.Members = r.Members
	})
	if err != nil {
		return nil, err
	}
	if err := p.store.Restart(ctx, p.serve()); err != nil {
		return nil, err
	}
	p.opts.Log.Info("this node joins again", "event", "store.rejoin", "reason", m.Why, "epoch", r.Epoch, "archive", path)
	return &next, nil
}

// peerNode is the other node as the log has it, or as it tells of itself to a
// node that never got as far as reading the log.
func (p *process) peerNode() eventlog.Node {
	snap := p.agent.Snapshot()
	name := p.peerName(snap.State)
	n, known := snap.State.Nodes[name]
	if !known {
		n = eventlog.Node{Name: name, API: snap.Reports[name].API}
	}
	return n
}

// pairUp gives the learner its vote.
func (p *process) pairUp(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, reformBound)
	defer cancel()
	members, err := etcdnode.Members(ctx, p.client)
	if err != nil {
		return nil, err
	}
	writers := make([]string, 0, len(members))
	for _, v := range members {
		if v.Name == "" {
			return nil, errors.New("the new member has not started yet")
		}
		if v.Learner {
			if err := p.promoter(ctx, v); err != nil {
				return nil, err
			}
		}
		writers = append(writers, v.Name)
	}
	mode := quorum.Pair
	if m.Record.Mode == quorum.Witnessed {
		mode = quorum.Witnessed
	}
	if len(writers) < 2 || mode == quorum.Witnessed && !slices.Contains(writers, p.peerName(p.agent.State())) {
		return nil, errors.New("the new member is gone again")
	}
	slices.Sort(writers)
	epoch, err := p.startEpoch(ctx, epochStart{
		basis: m.Record.Epoch, lowest: m.Epoch, mode: mode, writers: writers,
		key: fmt.Sprintf("pair/%s/%d", p.cfg.Node, m.Epoch), reason: "another voter has everything",
	})
	if err != nil {
		return nil, err
	}
	err = p.file.update(func(s *etcdnode.State) { s.Members = urls(members) })
	return &quorum.Record{Mode: mode, Epoch: epoch}, err
}

func (p *process) promoter(ctx context.Context, v etcdnode.Member) error {
	if err := etcdnode.PromoteWhenEqual(ctx, p.client, v.ID, p.id.ClientTLS()); err != nil {
		return err
	}
	p.opts.Log.Info("the other node votes now", "event", "store.promoted", "reason", "it has everything", "member", v.Name)
	return nil
}

func urls(members []etcdnode.Member) map[string]string {
	out := map[string]string{}
	for _, m := range members {
		out[m.Name] = m.PeerURL
	}
	return out
}

// leave hands the log to the peer: first the witness says so, then the log, and
// only then this member goes.
//
// Invariant: the witness is never asked for an epoch by a node that handed it to
// the other one. In the other order one that crashed in between could be, and each
// would have a word that the other one goes on.
func (p *process) leave(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, leaveBound)
	defer cancel()
	peer := p.peerName(p.agent.State())
	if err := p.witnessed(ctx, quorum.Claim{Epoch: m.Epoch, Mode: quorum.Sole, Holder: peer}); err != nil {
		return nil, err
	}
	epoch, err := p.startEpoch(ctx, epochStart{
		basis: m.Record.Epoch, lowest: m.Epoch, mode: quorum.Sole, writers: []string{peer},
		key: fmt.Sprintf("leave/%s/%d/%s", p.cfg.Node, m.Epoch, p.boot), reason: p.cfg.Node + " stops as planned",
	})
	if err != nil {
		return nil, err
	}
	left := quorum.Record{Mode: quorum.Stale, Epoch: epoch}
	if err := p.file.update(func(s *etcdnode.State) { s.SetRecord(left) }); err != nil {
		return nil, err
	}
	if err := etcdnode.Leave(ctx, p.client, p.id.ClientTLS()); err != nil {
		p.opts.Log.Warn("this member could not be taken out of the store; the other node does it",
			"event", "store.leave", "reason", err)
	}
	return &left, nil
}

// raise finishes a change of the witness.
func (p *process) raise(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, witnessBound)
	defer cancel()
	return nil, p.agent.SettleWitness(ctx, m.Epoch)
}

// shed takes the vote of a member away that is no writer any more.
//
// Invariant: it ends. The store refuses for some seconds after the other member
// connected, and can't do it once that is gone; then this node has to look again
// and start its store alone.
func (p *process) shed(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, leaveBound)
	defer cancel()
	if !m.Record.Alone() {
		return nil, p.dismiss(ctx)
	}
	members, err := etcdnode.Members(ctx, p.client)
	if err != nil {
		return nil, err
	}
	for _, v := range members {
		if v.Name != p.cfg.Node && !v.Learner {
			if err := etcdnode.RemoveMember(ctx, p.client, v.ID); err != nil {
				return nil, err
			}
		}
	}
	return nil, p.file.update(func(s *etcdnode.State) { s.Members = p.alone() })
}
