package etcdnode

import (
	"errors"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver"
)

// deafAfter is how long a newcomer that everybody knows may take to notice.
const deafAfter = 50 * time.Millisecond

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
// Started again it has nothing to wait for.
type newcomer struct {
	name  string
	fresh bool      // the directory was empty
	known time.Time // since when its name is in the log
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
