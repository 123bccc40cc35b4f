package etcdnode

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/datadir"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/proto"
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
	self, errS := selfOnDisk(c.Dir)
	known, errM := membersOnDisk(c.Dir)
	if errS != nil || errM != nil {
		return true // what can't be read here, etcd will complain about
	}
	others := 0
	for _, m := range known {
		if m.ID == self {
			continue
		}
		for _, u := range m.PeerURLs {
			if u == c.PeerURL || !serves(ctx, u) {
				return false
			}
			others++
		}
	}
	return others > 0
}

// selfOnDisk reads the ID of the member whose store lies in dir: it stands at the
// beginning of every file of the write-ahead log.
func selfOnDisk(dir string) (id uint64, err error) {
	files, err := filepath.Glob(filepath.Join(datadir.ToWALDir(dir), "*.wal"))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(err, ErrNoStore)
	}
	f, err := os.Open(slices.Max(files))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	d := wal.NewDecoder(fileutil.NewFileReader(f))
	for {
		var rec walpb.Record
		if err := d.Decode(&rec); err != nil {
			return 0, err
		}
		switch rec.GetType() {
		case wal.CrcType:
			d.UpdateCRC(rec.GetCrc())
		case wal.MetadataType:
			var m etcdserverpb.Metadata
			err := proto.Unmarshal(rec.GetData(), &m)
			return m.GetNodeID(), err
		}
	}
}

// diskMember is a member as a store's database holds it.
type diskMember struct {
	ID       uint64   `json:"id"`
	PeerURLs []string `json:"peerURLs"`
}

// membersOnDisk reads the members that the stopped store in dir knows.
func membersOnDisk(dir string) (known []diskMember, err error) {
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
			var m diskMember
			err := json.Unmarshal(value, &m)
			known = append(known, m)
			return err
		})
	})
	return known, err
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
