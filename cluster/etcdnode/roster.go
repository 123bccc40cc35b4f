package etcdnode

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Roster is who votes in the store, as this member knows it.
type Roster struct {
	// Members are all of them.
	Members []Member
	// Shared: another member has a vote.
	Shared bool
	// Waiting: a learner was admitted. Learner is it, once it runs and has
	// everything that was committed when it was compared.
	Waiting bool
	Learner Member
}

// Shared tells by what lies in dir whether another member has a vote. Its member may
// run: one that has heard no leader since its start answers nothing, [ReadRoster]
// neither. Errors: ErrNoStore, ErrDamaged.
func Shared(dir string) (bool, error) {
	l, err := readWAL(dir)
	if err != nil {
		return false, fmt.Errorf("read who votes: %w", err)
	}
	m, err := l.members(l.commit())
	if err != nil {
		return false, fmt.Errorf("read who votes: %w: %w", ErrDamaged, err)
	}
	return slices.ContainsFunc(m.voters, func(id uint64) bool { return id != l.self }), nil
}

// ReadRoster asks the local member, without quorum. self is this
// member's name, conf what its peer URL takes.
func ReadRoster(ctx context.Context, client *clientv3.Client, self string, conf *tls.Config) (Roster, error) {
	var r Roster
	resp, err := client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return r, fmt.Errorf("list the store's members: %w", err)
	}
	for _, m := range resp.Members {
		r.Members = append(r.Members, Member{ID: m.ID, Name: m.Name, PeerURL: m.PeerURLs[0], Learner: m.IsLearner})
		switch {
		case m.Name == self:
		case !m.IsLearner:
			r.Shared = true
		case m.Name == "":
			r.Waiting = true
		default:
			r.Waiting = true
			if equal(ctx, client, m.PeerURLs[0], conf) == nil {
				r.Learner = Member{ID: m.ID, Name: m.Name, PeerURL: m.PeerURLs[0], Learner: true}
			}
		}
	}
	return r, nil
}
