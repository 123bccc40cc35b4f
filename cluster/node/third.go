package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dyad/cluster/api"
	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/projections"
)

// thirdOf compares the members of the store with what the log says of them. A
// member that has not started has no name yet, and is nobody's.
//
// Invariant: a writer of a pair is never unwanted: it may be a node that has its
// vote and has not declared itself yet. Of three, both nodes have.
func thirdOf(s projections.State, members []etcdnode.Member) quorum.ThirdSight {
	out := quorum.ThirdSight{Named: s.Voter.Name != ""}
	for _, m := range members {
		_, node := s.Nodes[m.Name]
		out.Learning = out.Learning || m.Learner
		out.Votes = out.Votes || !m.Learner && !node
		writer := s.Mode != string(quorum.Witnessed) && slices.Contains(s.Writers, m.Name)
		out.Unwanted = out.Unwanted || m.Name != "" && !node && !writer && m.Name != s.Voter.Name
	}
	return out
}

// mayEnlist tells whether a third voter can join now: both nodes write.
func (p *process) mayEnlist(what string, r api.JoinRequest) error {
	s := p.steward.Status()
	if s.Record.Mode != quorum.Pair || s.Record.Step != "" || !s.Writable {
		why := s.Why
		if why == "" {
			why = "the log is " + string(s.Mode) + ", and a third vote is for a pair"
		}
		return notTaken(api.ClassUnavailable, "not-a-pair", what, r, why, "dyad status, then again when both nodes are PAIR and writable")
	}
	return nil
}

// widen begins the epoch in which the third voter counts. Its vote comes later,
// when both nodes know of that.
func (p *process) widen(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	s := p.agent.State()
	writers := append(s.NodeNames(), s.Voter.Name)
	slices.Sort(writers)
	epoch, err := p.startEpoch(ctx, epochStart{
		basis: m.Record.Epoch, lowest: m.Epoch, mode: quorum.Witnessed, writers: writers,
		key: fmt.Sprintf("widen/%s/%d", p.cfg.Node, m.Epoch), reason: s.Voter.Name + " holds a third vote",
	})
	if err != nil {
		return nil, err
	}
	return &quorum.Record{Mode: quorum.Witnessed, Epoch: epoch}, nil
}

// enlist gives the third voter its vote.
func (p *process) enlist(ctx context.Context, _ quorum.Move) (*quorum.Record, error) {
	members, err := etcdnode.Members(ctx, p.client)
	if err != nil {
		return nil, err
	}
	voter := p.agent.State().Voter.Name
	for _, v := range members {
		if v.Learner && v.Name == voter {
			if err := p.promoter(ctx, v); err != nil {
				return nil, err
			}
		}
	}
	return nil, p.file.update(func(s *etcdnode.State) { s.Members = urls(members) })
}

// dismiss takes members out of the store that are neither a node's nor the
// voter's, by a log that was read to its end.
func (p *process) dismiss(ctx context.Context) error {
	head, err := p.log.Newest(ctx)
	if err != nil {
		return err
	}
	s := p.agent.State()
	if s.Head.Seq < head.Seq {
		return errors.New("the log has not been read to its end")
	}
	members, err := etcdnode.Members(ctx, p.client)
	if err != nil {
		return err
	}
	for _, v := range members {
		if !thirdOf(s, []etcdnode.Member{v}).Unwanted {
			continue
		}
		if err := etcdnode.RemoveMember(ctx, p.client, v.ID); err != nil {
			return err
		}
		p.opts.Log.Info("a member is out of the store", "event", "store.dismissed", "reason", "the log does not name it", "member", v.Name)
	}
	return nil
}

// narrow makes the nodes a pair again.
//
// Invariant: both members count votes without the third one already: each was
// asked itself, not the quorum. A leader that still counted it could commit, after
// the epoch began, what the other node has not got.
func (p *process) narrow(ctx context.Context, m quorum.Move) (*quorum.Record, error) {
	members, err := etcdnode.Members(ctx, p.client)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for _, v := range members {
		ids = append(ids, v.ID)
	}
	slices.Sort(ids)
	names := p.agent.State().NodeNames()
	if len(members) != 2 || len(names) != 2 {
		return nil, fmt.Errorf("the store has %d members, and the cluster %d nodes", len(members), len(names))
	}
	for _, v := range members {
		if v.Learner || !slices.Contains(names, v.Name) {
			return nil, fmt.Errorf("%s is a member of the store still", v.Name)
		}
		known, err := etcdnode.MembersAt(ctx, v.PeerURL, p.id.ClientTLS())
		if err != nil {
			return nil, err
		}
		if slices.Sort(known); !slices.Equal(known, ids) {
			return nil, fmt.Errorf("%s does not know of the change yet", v.Name)
		}
	}
	epoch, err := p.startEpoch(ctx, epochStart{
		basis: m.Record.Epoch, lowest: m.Epoch, mode: quorum.Pair, writers: names,
		key: fmt.Sprintf("narrow/%s/%d", p.cfg.Node, m.Epoch), reason: "there is no third vote any more",
	})
	if err != nil {
		return nil, err
	}
	return &quorum.Record{Mode: quorum.Pair, Epoch: epoch}, p.file.update(func(s *etcdnode.State) { s.Members = urls(members) })
}
