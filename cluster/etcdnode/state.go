package etcdnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dyad/cluster/quorum"
	"dyad/eventlog"
)

// StateVersion is the version of node.state that this release writes. It reads
// it and all before it.
const StateVersion = 1

const stateFile = "node.state"

// State is what a node must know before, and without, its store. It lies in
// node.state in the data directory.
type State struct {
	Version int `json:"version"`
	// Release is the dyad release that wrote the file.
	Release string         `json:"release,omitempty"`
	Cluster string         `json:"cluster"` // the cluster's ID
	Node    string         `json:"node"`
	Mode    quorum.Mode    `json:"mode"`
	Epoch   eventlog.Epoch `json:"epoch"`
	// Step, Next and By say how far a change of the set of writers has come; see
	// quorum.Record. Evidence is what led to it, for the log.
	Step     quorum.Step      `json:"step,omitempty"`
	Next     eventlog.Epoch   `json:"next,omitempty"`
	By       quorum.Authority `json:"by,omitempty"`
	Evidence json.RawMessage  `json:"evidence,omitempty"`
	// Voter: this machine only holds a vote in the store of two nodes.
	Voter bool `json:"voter,omitempty"`
	// External is the prefix of the log's keys in a store that others run; empty:
	// the log lies in this node's own.
	External string `json:"external,omitempty"`
	// Members maps the name of every member of the store to its peer URL.
	Members map[string]string `json:"members"`
	// Gossip are the addresses to find the other node at, host:port.
	Gossip []string `json:"gossip,omitempty"`
	// Witness is the one that the log named last: a node that starts alone can't
	// read it there.
	Witness eventlog.Witness `json:"witness,omitzero"`
	// WitnessAt is how far the log was read when Witness was last written.
	WitnessAt eventlog.Head `json:"witness_at,omitzero"`
	// MemberID is this node's member ID in the store; 0 while unknown.
	MemberID uint64 `json:"member_id,omitempty"`
}

// Record is the part of s that the rules of the two-node log look at.
func (s State) Record() quorum.Record {
	return quorum.Record{Mode: s.Mode, Epoch: s.Epoch, Step: s.Step, Next: s.Next, By: s.By}
}

// SetRecord puts r in force.
func (s *State) SetRecord(r quorum.Record) {
	s.Mode, s.Epoch, s.Step, s.Next, s.By = r.Mode, r.Epoch, r.Step, r.Next, r.By
}

// Errors of LoadState and SaveState. Test with errors.Is.
var (
	// ErrNotInitialised: there is no node.state.
	ErrNotInitialised = errors.New("this node is not initialised")
	// ErrNewerState: a newer release wrote node.state.
	ErrNewerState = errors.New("node.state was written by a newer release")
	// ErrBadState: node.state can't be understood.
	ErrBadState = errors.New("node.state is damaged")
	// ErrNotWritable: the data directory can't be written.
	ErrNotWritable = errors.New("the data directory can't be written")
)

// LoadState reads dir/node.state. Errors: ErrNotInitialised, ErrNewerState,
// ErrBadState, and the file system's.
func LoadState(dir string) (State, error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%w: %s does not exist; try: dyad init, or dyad join", ErrNotInitialised, path)
	}
	if err != nil {
		return State{}, fmt.Errorf("read the state of this node: %w; try: run as the user that owns %s", err, dir)
	}
	var head struct {
		Version int    `json:"version"`
		Release string `json:"release"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return State{}, bad(path, err.Error())
	}
	if head.Version > StateVersion {
		release := head.Release
		if release == "" {
			release = "the release that wrote it"
		}
		return State{}, fmt.Errorf("%w: %s has version %d, this release reads up to %d; try: install dyad ≥ %s",
			ErrNewerState, path, head.Version, StateVersion, release)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, bad(path, err.Error())
	}
	if err := s.check(); err != nil {
		return State{}, bad(path, err.Error())
	}
	return s, nil
}

func bad(path, why string) error {
	return fmt.Errorf("%w: %s: %s; try: restore it from a backup, or move it away and join this node anew", ErrBadState, path, why)
}

// check tells what a state lacks.
func (s State) check() error {
	switch {
	case s.Version < 1:
		return errors.New("no version")
	case s.Cluster == "":
		return errors.New("no cluster ID")
	case s.Node == "":
		return errors.New("no node name")
	}
	for _, m := range quorum.Modes() {
		if m == s.Mode {
			return nil
		}
	}
	return fmt.Errorf("mode %q is none of %v", s.Mode, quorum.Modes())
}

// SaveState replaces dir/node.state: written beside it, synced, renamed, and
// the directory synced. After a crash the file is the old one or the new one.
// It sets s.Version; dir is created if it does not exist. Errors: ErrNotWritable
// and ErrBadState for a state that could not be loaded again.
func SaveState(dir string, s State) error {
	s.Version = StateVersion
	if err := s.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadState, err)
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the state of this node: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return notWritable(dir, err)
	}
	if err := replaceFile(filepath.Join(dir, stateFile), append(b, '\n')); err != nil {
		return notWritable(dir, err)
	}
	return nil
}

func notWritable(dir string, err error) error {
	return fmt.Errorf("%w: %w; try: make %s writable and free some space there", ErrNotWritable, err, dir)
}

// replaceFile replaces path by content, durably and at once.
func replaceFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(content); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	// From here on the new file stands; only its name may not be durable yet.
	return errors.Join(f.Close(), syncDir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
