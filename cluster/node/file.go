package node

import (
	"encoding/json"
	"slices"
	"sync"

	"dyad/cluster/etcdnode"
	"dyad/cluster/quorum"
	"dyad/projections"
)

// stateFile is node.state, which the steward and the keeper both write.
type stateFile struct {
	dir string

	mu    sync.Mutex
	state etcdnode.State
}

func (f *stateFile) get() etcdnode.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// update writes what change makes of the state, if that is anything new. What
// get returns is always on disk.
func (f *stateFile) update(change func(*etcdnode.State)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.state
	change(&next)
	if equalState(next, f.state) {
		return nil
	}
	if err := etcdnode.SaveState(f.dir, next); err != nil {
		return err
	}
	f.state = next
	return nil
}

func equalState(a, b etcdnode.State) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && slices.Equal(x, y)
}

// save makes a move's record durable, with what led to it, and the witness that
// the log named by then: a voter of the pair must not start without it.
func (f *stateFile) save(m quorum.Move, sight quorum.Sight, log projections.State) error {
	return f.update(func(s *etcdnode.State) {
		s.SetRecord(m.Record)
		keepWitness(s, log)
		if m.Record.Step != quorum.Granted {
			s.Evidence = nil
			return
		}
		if b, err := json.Marshal(evidenceOf(m, sight)); err == nil && len(s.Evidence) == 0 {
			s.Evidence = b
		}
	})
}

// evidence is why a node went on alone, as the log shows it.
type evidence struct {
	By     quorum.Authority `json:"by"`
	Peer   string           `json:"peer"`
	Silent string           `json:"silent,omitempty"`
	// PeerEpoch and PeerMode are the last words of the other node.
	PeerEpoch uint64        `json:"peer_epoch,omitempty"`
	PeerMode  string        `json:"peer_mode,omitempty"`
	Steady    bool          `json:"steady"`
	Fenced    bool          `json:"fenced,omitempty"`
	Claim     *quorum.Claim `json:"claim,omitempty"`
	Word      *quorum.Word  `json:"word,omitempty"`
	Before    quorum.Record `json:"before"`
}

func evidenceOf(m quorum.Move, s quorum.Sight) evidence {
	e := evidence{
		By: m.Record.By, Peer: s.Peer.Name, PeerEpoch: uint64(s.Peer.Epoch), PeerMode: string(s.Peer.Mode),
		Steady: s.Steady, Fenced: s.Fenced,
		Before: quorum.Record{Mode: m.Record.Mode, Epoch: m.Record.Epoch},
	}
	if s.Peer.Silent > 1 {
		e.Silent = s.Peer.Silent.String()
	}
	if s.Witness.Known {
		e.Claim = &s.Witness.Claim
	}
	if s.Word.Peer != "" {
		e.Word = &s.Word
	}
	return e
}
