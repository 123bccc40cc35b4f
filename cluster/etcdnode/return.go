package etcdnode

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrLastVoter: without this member nobody would hold the log.
var ErrLastVoter = errors.New("this is the store's only voter")

// Readmit lets a node come back with an empty directory: it removes what the
// store still knows of name and peerURL, and admits it as a learner; see
// [AddLearner] for what it returns. client talks to the survivor.
//
// Only call it when that node's old store was put aside ([Archive]): an old one
// would be cut off from the log for ever. Removing a voter of a pair needs both,
// so a pair whose other node is dead must be taken over first. It can be
// repeated; a learner admitted before is replaced by one with another ID.
func Readmit(ctx context.Context, client *clientv3.Client, name, peerURL string) (uint64, map[string]string, error) {
	if _, _, err := memberURL(peerURL); err != nil {
		return 0, nil, err
	}
	known, err := Members(ctx, client)
	if err != nil {
		return 0, nil, err
	}
	self, err := ask(ctx, client)
	if err != nil {
		return 0, nil, err
	}
	for _, m := range known {
		if m.Name != name && m.PeerURL != peerURL {
			continue
		}
		if m.ID == self.Header.MemberId {
			return 0, nil, fmt.Errorf("%s at %s is this very member of the store; the node that comes back needs its own name and address", m.Name, m.PeerURL)
		}
		if err := RemoveMember(ctx, client, m.ID); err != nil {
			return 0, nil, err
		}
	}
	return AddLearner(ctx, client, name, peerURL)
}

// Leave takes this member out of the store, which the others carry on without a
// pause worth speaking of: it hands leadership over first. client talks to this
// member, which ends by itself a second later; stop it before. conf is what the
// peer URL of the others takes; nil in plain.
//
// Errors: ErrLastVoter, or that it could not be confirmed. In the latter case
// it may have left: ask another member ([Members]), or stop this one and see
// [ReadTail], which gives ErrNotVoter if it has, and a Cut if it may have.
func Leave(ctx context.Context, client *clientv3.Client, conf *tls.Config) error {
	known, err := Members(ctx, client)
	if err != nil {
		return fmt.Errorf("leave the store: %w", err)
	}
	self, err := ask(ctx, client)
	if err != nil {
		return fmt.Errorf("leave the store: %w", err)
	}
	id := self.Header.MemberId
	i := slices.IndexFunc(known, func(m Member) bool { return m.ID != id && !m.Learner })
	if i < 0 {
		return fmt.Errorf("leave the store: %w; try: let the other node join first", ErrLastVoter)
	}
	heir := known[i]
	if self.Leader == id {
		cctx, cancel := context.WithTimeout(ctx, callBound)
		defer cancel()
		// If it does not work the store elects another leader afterwards, which
		// only takes longer.
		_, _ = client.MoveLeader(cctx, heir.ID)
	}
	return change(ctx, "leave the store", func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, id)
		if err == nil || errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil
		}
		// A member often learns that it was removed by being turned away, and
		// then ends before it answers. The heir knows.
		switch left, aerr := hasLeft(ctx, heir.PeerURL, conf, id); {
		case left:
			return nil
		case aerr != nil:
			return errors.Join(err, aerr)
		case errors.Is(err, rpctypes.ErrStopped):
			return context.DeadlineExceeded // not yet; ask again
		}
		return err
	})
}

// hasLeft asks the member at peerURL, on the port for members, whether id is no
// member any more.
func hasLeft(ctx context.Context, peerURL string, conf *tls.Config, id uint64) (bool, error) {
	known, err := MembersAt(ctx, peerURL, conf)
	if err != nil {
		return false, err
	}
	return !slices.Contains(known, id), nil
}

// MembersAt asks the member at peerURL, on the port for members, which members it
// knows: those that it counts votes by from here on. conf is the agent's for https,
// or nil.
func MembersAt(ctx context.Context, peerURL string, conf *tls.Config) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL+"/members", nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxConfigBytes))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the member answered: %s", bytes.TrimSpace(answer))
	}
	var known []struct {
		ID uint64 `json:"id"`
	}
	if err := json.Unmarshal(answer, &known); err != nil || len(known) == 0 {
		return nil, errors.Join(err, errors.New("the member named no members"))
	}
	var out []uint64
	for _, m := range known {
		out = append(out, m.ID)
	}
	return out, nil
}

// ask asks the member that client talks to who it is and who leads.
func ask(ctx context.Context, client *clientv3.Client) (*clientv3.StatusResponse, error) {
	cctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	status, err := client.Status(cctx, client.Endpoints()[0])
	if err != nil {
		return nil, fmt.Errorf("ask the store's member for its state: %w", err)
	}
	return status, nil
}

// Reconnect makes client try its store again now. After a store was away for a
// while a client waits up to half a second before it looks again; call it when
// the store answers ([SupervisorConfig].Notify).
func Reconnect(client *clientv3.Client) { client.ActiveConnection().ResetConnectBackoff() }
