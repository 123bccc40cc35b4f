package etcdnode

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/schema"
)

// probeBound is how long another member may take to say anything at all.
const probeBound = 150 * time.Millisecond

// comparable tells whether every other member is there to compare this one's
// data with.
//
// etcd compares before it serves its own members' port. Of two members that
// start together each waits for the other, for 5 s and two elections; one whose
// peer is silent waits as long for nothing; and so does one that catches up
// with a log in which it still is the member it was before it was wiped, and
// asks itself. So it compares only with members that serve now. Otherwise the
// comparison at every compaction remains, and every reader of the log checks
// the chain.
func (c ServeConfig) comparable(ctx context.Context) bool {
	known, err := membersOnDisk(c.Dir)
	if err != nil {
		return true // what can't be read here, etcd will complain about
	}
	own, others := 0, 0
	for _, u := range known {
		switch {
		case u == c.PeerURL:
			own++
		case serves(ctx, u):
			others++
		default:
			return false
		}
	}
	return own <= 1 && others > 0
}

// membersOnDisk reads the URLs of the members that the stopped store in dir
// knows.
func membersOnDisk(dir string) (urls []string, err error) {
	path := datadir.ToBackendFileName(dir)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: openBound})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(schema.Members.Name())
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(_, value []byte) error {
			var m struct {
				PeerURLs []string `json:"peerURLs"`
			}
			err := json.Unmarshal(value, &m)
			urls = append(urls, m.PeerURLs...)
			return err
		})
	})
	return urls, err
}

// serves tells whether the member at peerURL says anything, in whatever protocol
// it speaks: a server that only listens does not.
func serves(ctx context.Context, peerURL string) bool {
	u, err := url.Parse(peerURL)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return false
	}
	if _, err := io.WriteString(conn, "GET /version HTTP/1.0\r\n\r\n"); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 1))
	return err == nil || errors.Is(err, io.EOF)
}
