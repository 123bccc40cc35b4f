package etcdnode

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"dyad/eventlog"
)

const (
	// aloneBound is how long a running member may take to become the only voter.
	aloneBound = time.Second
	// removeBound bounds one attempt to remove the other member.
	removeBound = 200 * time.Millisecond
	// aloneEvery is how often it is looked how far it is.
	aloneEvery = 500 * time.Microsecond
)

// ErrNotAlone: the running member could not be made the only voter. It may have
// come any part of the way; [KeepTail] and a start with [ServeConfig].Force do
// the rest.
var ErrNotAlone = errors.New("the running store can't go on alone")

// goAlone makes the running member of a pair the only voter, without a restart.
// The other one is gone for good, as far as this store is concerned, so its
// votes and acknowledgements are given here in its name, until its removal is
// committed with them. Everything on this disk comes to count as committed, as
// with [KeepTail]; the epoch is that of c.Force, noted as by a forced start.
//
// Invariant: only the node that was given the log does this, and only a voter
// of the pair. All that was ever committed is then on this disk: what the other
// one may commit, should it live after all, needs this one's own answer.
func (c ServeConfig) goAlone(ctx context.Context, s *etcdserver.EtcdServer) error {
	ctx, cancel := context.WithTimeout(ctx, aloneBound)
	defer cancel()
	a := alone{s: s, dir: c.Dir, self: uint64(s.MemberID()), removed: make(chan error, 1)}
	tick := time.NewTicker(aloneEvery)
	defer tick.Stop()
	defer func() {
		if a.removing {
			cancel()
			<-a.removed
		}
	}()
	for {
		done, err := a.step(ctx)
		switch {
		case err != nil:
			return err
		case done:
			s.ResumeSending() // a learner may be there
			return c.noteForced()
		}
		select {
		case <-tick.C:
		case err := <-a.removed:
			if a.removing = false; err != nil && ctx.Err() != nil {
				return fmt.Errorf("the other member can't be removed: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("it took more than %s", aloneBound)
		}
	}
}

// alone is one way of a member to being the only voter.
type alone struct {
	s           *etcdserver.EtcdServer
	dir         string
	self, other uint64
	elected     bool   // on this way
	from        uint64 // the last entry of the log it leads with, once that was looked at
	removing    bool
	removed     chan error
}

// step looks how far it is and gives the next answer in the other one's name.
func (a *alone) step(ctx context.Context) (done bool, err error) {
	st, ok := raftStatus()
	if !ok {
		return false, errors.New("it does not say what it is")
	}
	if done, err := a.look(st); done || err != nil {
		return done, err
	}
	term := st.GetTerm()
	switch st.RaftState {
	case raft.StateFollower:
		if st.Applied < st.GetCommit() {
			return false, nil // see hurry
		}
		return false, a.s.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), To: &a.self, From: &a.self})
	case raft.StatePreCandidate:
		a.answer(ctx, raftpb.MsgPreVoteResp, term+1, 0)
	case raft.StateCandidate:
		a.elected = true
		a.answer(ctx, raftpb.MsgVoteResp, term, 0)
	case raft.StateLeader:
		return false, a.lead(ctx, st)
	}
	return false, nil
}

// look finds the other voter, or that there is none.
func (a *alone) look(st raft.Status) (done bool, err error) {
	voters := st.Config.Voters.IDs()
	if _, is := voters[a.self]; !is || len(voters) > 2 {
		return false, fmt.Errorf("it is one of %d voters, %v", len(voters), voters)
	}
	if len(voters) == 1 {
		return st.RaftState == raft.StateLeader && st.GetCommit() == st.Applied, nil
	}
	for id := range voters {
		if id != a.self {
			a.other = id
		}
	}
	return false, nil
}

// lead has everything committed, and the other member removed.
//
// Invariant: nothing is acknowledged in the other one's name before this member
// leads, and has looked at the log it leads with. From then on nothing of an older
// term gets into it.
func (a *alone) lead(ctx context.Context, st raft.Status) error {
	own := st.Progress[a.self].Match
	if a.from == 0 {
		if a.elected && own <= st.GetCommit() {
			return nil // the first entry of its term is not on its disk yet
		}
		l, err := readWALFrom(a.dir, st.GetCommit())
		if err != nil {
			return err
		}
		for _, e := range l.entries {
			if l.removesSelf(e) {
				return fmt.Errorf("entry %d takes it out of the store", e.GetIndex())
			}
		}
		a.from = own
	}
	// Until it has applied what it led with, raft takes a change of members for
	// one too many.
	if !a.removing && st.Applied >= a.from {
		a.removing = true
		go func() { a.removed <- a.remove(ctx) }()
	}
	if own > st.Progress[a.other].Match {
		a.answer(ctx, raftpb.MsgAppResp, st.GetTerm(), own)
	}
	return nil
}

func (a *alone) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeBound)
	defer cancel()
	_, err := a.s.RemoveMember(ctx, a.other)
	return err
}

// answer says something in the other member's name. If raft does not take it,
// that shows in how far it is: the other one may be removed by now.
func (a *alone) answer(ctx context.Context, what raftpb.MessageType, term, index uint64) {
	_ = a.s.Process(ctx, &raftpb.Message{Type: what.Enum(), To: &a.self, From: &a.other, Term: &term, Index: &index})
}

// raftStatus is what the member in this process says of itself. etcd shows it
// nowhere else; there is one member in a process.
func raftStatus() (raft.Status, bool) {
	f, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return raft.Status{}, false
	}
	st, ok := f.Value().(raft.Status)
	return st, ok
}

// command is what a supervisor tells a running member.
type command struct {
	// Alone is the epoch by whose takeover it becomes the only voter; 0: it only
	// parts from the others.
	Alone eventlog.Epoch `json:"alone"`
}

func (c ServeConfig) obey(ctx context.Context, s *etcdserver.EtcdServer, o command) error {
	// It also stops listening. Whoever becomes a member later is not meant.
	s.PauseSending()
	if o.Alone == 0 {
		return nil
	}
	c.Force = o.Alone
	return c.goAlone(ctx, s)
}
