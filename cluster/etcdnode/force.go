package etcdnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/raft/v3/raftpb"

	"dyad/eventlog"
)

const (
	// forcedFile lies in the store's directory and holds the epoch of the last
	// forced start that came to its end.
	forcedFile = "forced"
	// hurryEvery is how often a sole voter is asked to elect itself while it
	// has no leader.
	hurryEvery = 2 * time.Millisecond
)

// forces tells whether c has to be carried out by force now.
//
// Invariant: a store is forced at most once for an epoch. The child notes the
// epoch durably before it says that it is ready, and whoever changes the
// membership waits for that ([Supervisor.WaitReady]). Before the note a second
// forced start finds what the first one found; after it, whoever was admitted
// since is safe from being thrown out by a restart with the same configuration,
// in whichever process and however late it comes.
func (c ServeConfig) forces() (bool, error) {
	if c.Force == 0 {
		return false, nil
	}
	if c.empty() {
		// Forcing would begin a new, empty log.
		return false, fmt.Errorf("start the store as a new one of one: %w: %s; try: dyad join, if the other node has the log", ErrNoStore, c.Dir)
	}
	last, err := forced(c.Dir)
	return err == nil && last < c.Force, err
}

// Begun tells whether the store in dir was begun anew as one of this member alone
// by the takeover that leads to epoch. With voted the member had its vote before
// the takeover, and its own log is asked too: it says that nobody else has a vote
// as soon as the forced start has bitten, even if that was broken off before it
// was noted. The store of a member that was passed over may have been its alone
// long before, and proves nothing.
func Begun(dir string, epoch eventlog.Epoch, voted bool) (bool, error) {
	last, err := forced(dir)
	if err != nil || last >= epoch || !voted {
		return err == nil && last >= epoch, err
	}
	l, err := readWAL(dir)
	if err != nil {
		return false, err
	}
	m, err := l.members(l.commit())
	return err == nil && slices.Equal(m.voters, []uint64{l.self}), err
}

// empty tells whether the directory holds no store yet.
func (c ServeConfig) empty() bool {
	_, err := os.Stat(datadir.ToWALDir(c.Dir))
	return errors.Is(err, fs.ErrNotExist)
}

// forced is the epoch of the last forced start of the store in dir; 0 for none.
func forced(dir string) (eventlog.Epoch, error) {
	path := filepath.Join(dir, forcedFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read which takeovers this store went through: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s does not hold an epoch: %w; try: let this node join again", path, err)
	}
	return eventlog.Epoch(n), nil
}

// noteForced notes durably that the forced start of c is done.
func (c ServeConfig) noteForced() error {
	content := strconv.FormatUint(uint64(c.Force), 10) + "\n"
	if err := replaceFile(filepath.Join(c.Dir, forcedFile), []byte(content)); err != nil {
		return fmt.Errorf("note that the store was taken over: %w", notWritable(c.Dir, err))
	}
	return nil
}

// force makes e start the store as one of this member alone.
func force(e *embed.Config) error {
	e.ForceNewCluster = true
	// It compares with the others, and there are none. It reads everything.
	return corruptionCheck(e, false)
}

// hurry asks the sole voter of a store to elect itself now. Nobody else could
// win, so nothing is gained by waiting for the election timeout; that way a
// store is back in milliseconds and still has timeouts fit for a pair. It is
// repeated until everything that is committed is applied.
func hurry(ctx context.Context, s *etcdserver.EtcdServer) error {
	self := uint64(s.MemberID())
	for _, m := range s.Cluster().Members() {
		if !m.IsLearner && uint64(m.ID) != self {
			return nil
		}
	}
	// raft looks for changes of membership between what is applied and what is
	// committed, and panics if a snapshot took their place.
	st, ok := raftStatus()
	if s.Lead() != 0 || !ok || st.Applied < st.GetCommit() {
		return nil
	}
	return s.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), To: &self, From: &self})
}
