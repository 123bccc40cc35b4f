package etcdnode

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/cluster/api"
)

// Room looks after the size of the local member's file. client must know one
// endpoint, the local member's.
type Room struct{ client *clientv3.Client }

// NewRoom makes a Room.
func NewRoom(client *clientv3.Client) *Room { return &Room{client} }

func (r *Room) status(ctx context.Context) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	st, err := r.client.Status(ctx, r.client.Endpoints()[0])
	if err != nil {
		return nil, fmt.Errorf("ask the store for its size: %w", err)
	}
	return st, nil
}

// Size tells how full the local member's file is.
func (r *Room) Size(ctx context.Context) (api.StoreSize, error) {
	st, err := r.status(ctx)
	if err != nil {
		return api.StoreSize{}, err
	}
	s := api.StoreSize{
		Total: st.DbSize, InUse: st.DbSizeInUse, Quota: st.DbSizeQuota, Leader: st.Leader == st.Header.MemberId,
	}
	alarms, err := r.alarms(ctx)
	s.NoSpace = len(alarms) > 0
	return s, err
}

// alarms are the members whose file reached the quota.
func (r *Room) alarms(ctx context.Context) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	resp, err := r.client.AlarmList(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the store for its alarms: %w", err)
	}
	var out []uint64
	for _, a := range resp.Alarms {
		if a.Alarm == pb.AlarmType_NOSPACE {
			out = append(out, a.MemberID)
		}
	}
	return out, nil
}

// Compact drops every revision but the newest of each key, and waits until that
// is done on this member. To have nothing to drop is no error.
func (r *Room) Compact(ctx context.Context) error {
	now, err := r.client.Get(ctx, "\x00")
	if err == nil {
		_, err = r.client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	}
	// A full store takes no writes: it may be where it was the last time.
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compact the store: %w", err)
	}
	return nil
}

// Defrag rewrites the local member's file without what is free in it. The member
// answers nobody meanwhile.
func (r *Room) Defrag(ctx context.Context) error {
	_, err := r.client.Defragment(ctx, r.client.Endpoints()[0])
	return err
}

// HandOver makes another voter the leader. It fails if this member does not
// lead, or if there is nobody else.
func (r *Room) HandOver(ctx context.Context) error {
	st, err := r.status(ctx)
	if err != nil {
		return err
	}
	if st.Leader != st.Header.MemberId {
		return errors.New("this member does not lead the store")
	}
	members, err := Members(ctx, r.client)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID != st.Header.MemberId && !m.Learner && m.Name != "" {
			_, err := r.client.MoveLeader(ctx, m.ID)
			return err
		}
	}
	return errors.New("the store has no other voter")
}

// Disarm lets the store take writes again.
func (r *Room) Disarm(ctx context.Context) error {
	members, err := r.alarms(ctx)
	for _, m := range members {
		_, e := r.client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: m, Alarm: pb.AlarmType_NOSPACE})
		err = errors.Join(err, e)
	}
	return err
}
