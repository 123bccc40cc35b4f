package etcdlog

import (
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"dyad/eventlog"
)

// maxEchoes bounds how many of its own events a handle keeps for its followers.
const maxEchoes = 512

// echoes are the events this handle sealed last. A follower beside it sees most of
// them next, byte for byte, and need not decode and hash them again.
type echoes struct {
	mu   sync.Mutex
	ring [maxEchoes]eventlog.Envelope
}

func (r *echoes) add(sealed []eventlog.Envelope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range sealed {
		r.ring[e.Seq%maxEchoes] = e
	}
}

func (r *echoes) of(seq eventlog.Seq) eventlog.Envelope {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ring[seq%maxEchoes]
}

// read is decodeEvent for what may be this handle's own.
//
// Invariant: an echo is taken only for the very bytes it was sealed to, so whatever
// else stands under its key is decoded and checked.
func (l *Log) read(kv *mvccpb.KeyValue) (eventlog.Envelope, error) {
	if seq, ok := l.keys.sequence(kv.Key); ok {
		if e := l.echoes.of(seq); e.Seq == seq && eventlog.StoredAs(e, kv.Value) {
			return e, writtenOnce(kv)
		}
	}
	return l.keys.decodeEvent(kv)
}

// writtenOnce holds for every event. Whoever wrote again changed history, even if
// the hashes were made to fit.
func writtenOnce(kv *mvccpb.KeyValue) error {
	if kv.Version != 1 {
		return fmt.Errorf("%w: %s was written %d times", eventlog.ErrCorrupt, kv.Key, kv.Version)
	}
	return nil
}
