package etcdnode

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of membership changes.
const (
	// changeBound bounds one change. It must be well above an election.
	changeBound = 30 * time.Second
	// promoteBound bounds how long a learner may take to catch up.
	promoteBound = 2 * time.Minute
	// retryEvery is the pause between two attempts.
	retryEvery = 20 * time.Millisecond
	// behindBound is how soon a member that is behind says so.
	behindBound = 20 * time.Millisecond
	// callBound bounds one request.
	callBound = 5 * time.Second
)

// Member is a member of the store.
type Member struct {
	ID      uint64
	Name    string // empty until it started for the first time
	PeerURL string
	Learner bool
}

// Members lists the members, as the quorum knows them, by name.
func Members(ctx context.Context, client *clientv3.Client) ([]Member, error) {
	cctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	resp, err := client.MemberList(cctx)
	if err != nil {
		return nil, fmt.Errorf("list the store's members: %w", err)
	}
	var out []Member
	for _, m := range resp.Members {
		out = append(out, Member{ID: m.ID, Name: m.Name, Learner: m.IsLearner, PeerURL: strings.Join(m.PeerURLs, ",")})
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// AddLearner admits name at peerURL as a learner, and returns its member ID and
// the [ServeConfig].Members it has to start with (and Join). It waits while the
// store is not healthy enough for a change, for up to 30 s.
//
// A learner that was admitted and never started is replaced, also one at another
// URL: a member ID must not be used with a second empty directory, and whoever was
// to have it comes again. A started member at that URL, or of that name, is an
// error; remove it first.
func AddLearner(ctx context.Context, client *clientv3.Client, name, peerURL string) (uint64, map[string]string, error) {
	if _, _, err := memberURL(peerURL); err != nil {
		return 0, nil, err
	}
	known, err := Members(ctx, client)
	if err != nil {
		return 0, nil, err
	}
	members := map[string]string{name: peerURL}
	for _, m := range known {
		switch {
		case m.Name == "" && m.Learner:
			if err := RemoveMember(ctx, client, m.ID); err != nil {
				return 0, nil, err
			}
		case m.Name == name || m.PeerURL == peerURL:
			return 0, nil, fmt.Errorf("the store has the member %q at %s already; remove it before it joins again", m.Name, m.PeerURL)
		case m.Name == "":
			return 0, nil, fmt.Errorf("the member at %s has a vote and never started; remove it or start it first", m.PeerURL)
		default:
			members[m.Name] = m.PeerURL
		}
	}
	var id uint64
	err = change(ctx, "admit "+name, func(ctx context.Context) error {
		resp, err := client.MemberAddAsLearner(ctx, []string{peerURL})
		if err == nil {
			id = resp.Member.ID
			return nil
		}
		if errors.Is(err, rpctypes.ErrPeerURLExist) {
			// An attempt whose answer was lost did it.
			id, err = findLearner(ctx, client, peerURL)
		}
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			// The store makes the ID from the URL and the second. Within the
			// second of a removal that is the removed one's, for ever refused.
			return errAgain
		}
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return id, maps.Clone(members), nil
}

// errAgain: the change may work a moment later.
var errAgain = errors.New("the store refused the new member's ID")

func findLearner(ctx context.Context, client *clientv3.Client, peerURL string) (uint64, error) {
	known, err := Members(ctx, client)
	if err != nil {
		return 0, err
	}
	for _, m := range known {
		if m.PeerURL == peerURL && m.Name == "" && m.Learner {
			return m.ID, nil
		}
	}
	return 0, rpctypes.ErrPeerURLExist
}

// RemoveMember removes a member. One that is not there is fine.
func RemoveMember(ctx context.Context, client *clientv3.Client, id uint64) error {
	return change(ctx, fmt.Sprintf("remove member %x", id), func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil
		}
		return err
	})
}

// PromoteWhenEqual makes the learner a voter once it has applied everything the
// store had committed, and holds the same data: its revision and hash are read
// from its peer URL. The store itself would promote at 90 %. client must talk to
// a voter; conf is the agent's for https, or nil. It gives up after 2 minutes, or
// when ctx ends, with the last reason.
func PromoteWhenEqual(ctx context.Context, client *clientv3.Client, id uint64, conf *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, promoteBound)
	defer cancel()
	return attempt(ctx, fmt.Sprintf("promote member %x", id), func(ctx context.Context) (bool, error) {
		known, err := Members(ctx, client)
		if err != nil {
			return true, err
		}
		i := slices.IndexFunc(known, func(m Member) bool { return m.ID == id })
		if i < 0 {
			return false, errors.New("it is not a member")
		}
		if !known[i].Learner {
			return false, nil
		}
		if err := equal(ctx, client, known[i].PeerURL, conf); err != nil {
			return !errors.Is(err, errDiffers), err
		}
		_, err = client.MemberPromote(ctx, id)
		// Not a learner any more: an attempt whose answer was lost did it.
		if errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return false, nil
		}
		return passing(err) || errors.Is(err, rpctypes.ErrMemberLearnerNotReady), err
	})
}

var errDiffers = errors.New("its data differs from this member's")

// equal checks that the member at peerURL has applied all that is committed
// now, and that its data hashes as ours does.
func equal(ctx context.Context, client *clientv3.Client, peerURL string, conf *tls.Config) error {
	// With quorum: the revision is the newest, and ours has it.
	now, err := client.Get(ctx, "\x00")
	if err != nil {
		return err
	}
	revision := now.Header.Revision
	type answer struct {
		hashKV
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	asked := make(chan answer, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		h, err := peerHash(ctx, peerURL, revision, conf)
		asked <- answer{h, err}
	})
	// While it is behind it says so at once. A hash reads everything, so ours is
	// made beside theirs, and not for nothing.
	head := time.NewTimer(behindBound)
	defer head.Stop()
	select {
	case a := <-asked:
		if a.err != nil {
			return fmt.Errorf("at revision %d: %w", revision, a.err)
		}
		asked <- a
	case <-head.C:
	}
	ours, err := client.HashKV(ctx, client.Endpoints()[0], revision)
	if err != nil {
		return err
	}
	theirs := <-asked
	if theirs.err != nil {
		return fmt.Errorf("at revision %d: %w", revision, theirs.err)
	}
	// Hashes compare only from the same compaction on; it passes.
	if theirs.CompactRevision == ours.CompactRevision && theirs.Hash != ours.Hash {
		return fmt.Errorf("%w at revision %d; wipe it and let it join again", errDiffers, revision)
	}
	return nil
}

type hashKV struct {
	Hash            uint32 `json:"hash"`
	CompactRevision int64  `json:"compact_revision"`
}

// peerHash asks a member, on the port for members, for the hash of its data at
// a revision. A member that has not applied it answers with an error.
func peerHash(ctx context.Context, peerURL string, revision int64, conf *tls.Config) (hashKV, error) {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	body, err := json.Marshal(map[string]int64{"revision": revision})
	if err != nil {
		return hashKV{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL+"/members/hashkv", bytes.NewReader(body))
	if err != nil {
		return hashKV{}, err
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: conf}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return hashKV{}, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxLine))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return hashKV{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return hashKV{}, fmt.Errorf("the member answered: %s", bytes.TrimSpace(answer))
	}
	var h hashKV
	return h, json.Unmarshal(answer, &h)
}

// change repeats a membership change while the store says it can't be done yet.
func change(ctx context.Context, what string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeBound)
	defer cancel()
	return attempt(ctx, what, func(ctx context.Context) (bool, error) {
		err := do(ctx)
		return passing(err), err
	})
}

// passing tells whether a refusal of the store may pass by itself.
func passing(err error) bool {
	for _, e := range []error{
		rpctypes.ErrUnhealthy, rpctypes.ErrMemberNotEnoughStarted, rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged,
		rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost,
		context.DeadlineExceeded, errAgain,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err != nil && (strings.Contains(err.Error(), "unhealthy cluster") || strings.Contains(err.Error(), "Unavailable"))
}

// attempt calls do, which tells whether its error may pass, until it is done or
// ctx ends.
func attempt(ctx context.Context, what string, do func(context.Context) (bool, error)) error {
	for {
		cctx, cancel := context.WithTimeout(ctx, callBound)
		again, err := do(cctx)
		cancel()
		if err == nil {
			return nil
		}
		if !again {
			return fmt.Errorf("%s: %w", what, err)
		}
		wait := time.NewTimer(retryEvery)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%s: %w; last: %w", what, ctx.Err(), err)
		}
	}
}
