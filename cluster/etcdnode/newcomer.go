package etcdnode

import (
	"errors"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/datadir"
)

const (
	// deafAfter is how long a newcomer that everybody knows may take to notice.
	deafAfter = 50 * time.Millisecond
	// sentAfter is how long after a snapshot's file its record may take.
	sentAfter = 20 * time.Millisecond
)

// errStartAgain: the member has to be started once more, at once.
var errStartAgain = errors.New("start the store again")

// newcomer watches a member that started with an empty directory for an answer
// that never comes.
//
// A member answers clients once the announcement of its name is in the log, and
// waits for that entry to come by. If what it catches up with comes as a
// snapshot, as it does from every survivor that itself came back once, the
// entry may lie in the snapshot and never come by: the member has its name, and
// waits for its own request to time out, which takes 5 s and two elections.
// Started again it has nothing to wait for; and if that is done as soon as the
// snapshot lies on the disk, it is read once and not twice.
type newcomer struct {
	name  string
	dir   string
	fresh bool      // the directory was empty
	known time.Time // since when its name is in the log
	sent  time.Time // since when a snapshot is on the disk
}

// sated tells whether a snapshot came, and can be started from. It is asked while
// the member does not answer.
func (n *newcomer) sated(now time.Time) bool {
	if !n.fresh {
		return false
	}
	if n.sent.IsZero() {
		files, err := filepath.Glob(filepath.Join(datadir.ToSnapDir(n.dir), "*.snap"))
		if err == nil && len(files) > 0 {
			n.sent = now
		}
	}
	return !n.sent.IsZero() && now.Sub(n.sent) >= sentAfter
}

// stuck tells whether the member waits in vain. It is asked while the member
// does not answer.
func (n *newcomer) stuck(s *etcdserver.EtcdServer, now time.Time) bool {
	if !n.fresh {
		return false
	}
	for _, m := range s.Cluster().Members() {
		// The name alone it knows from its configuration.
		if m.ID != s.MemberID() || m.Name != n.name || len(m.ClientURLs) == 0 {
			continue
		}
		if n.known.IsZero() {
			n.known = now
		}
		return now.Sub(n.known) >= deafAfter
	}
	return false
}
