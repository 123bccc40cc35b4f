// Package etcdlog is the [eventlog.Log] on etcd.
//
// Keys, below a prefix:
//
//	log/<sequence, 16 hex digits>  one event, exactly as eventlog.Encode writes it
//	head                           the end of the log, eventlog.Head in JSON
//	epoch                          the log's epoch
//	floor                          the last event that was trimmed, eventlog.Head in JSON
//	importing                      there while a log is being restored
//	stream/<name>                  the stream's revision
//	idem/<key>                     the last event with that idempotency key
//
// An append reads what it depends on in one transaction without quorum, or knows
// it from the append before, and writes in one transaction that compares the head
// and the epoch. Everything else changes only together with the head, so those
// two compares cover it, and what is stale costs a second round, never a wrong
// event.
//
// # Reads, and when they can be trusted
//
// Head, Read and Follow ask the local member without quorum: they go on while
// the other node is gone. Two things guard that. A fresh learner answers such
// reads as if the log were empty, so the first read waits for one read with
// quorum (see [Options].Serializable). And a member that is behind what this
// handle has seen before (restarted, wiped, joined again) gives ErrUnavailable
// until it caught up. The client should therefore know one endpoint: the local
// member's.
//
// A store that others run has several endpoints, and each request may be answered
// by another member. There every question asks the quorum: see [Options].Shared.
//
// After a takeover that gave up the end of a log (see the design of SOLE and
// STALE) open a new handle: this one insists on what it saw.
package etcdlog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"dyad/eventlog"
)

// Bounds.
const (
	// DefaultPrefix stands before every key.
	DefaultPrefix = "dyad/"
	// DefaultCallTimeout bounds one request to the store. It must exceed an
	// election, or a leader change would look like a lost quorum.
	DefaultCallTimeout = 3 * time.Second
	// maxAttempts bounds how often an append without ExpectedHead starts again
	// because other writers came first.
	maxAttempts = 64
	// maxAttemptPause bounds the random pause between two attempts.
	maxAttemptPause = 8 * time.Millisecond
	// pageEvents is how many events one request asks for, and readBytes about
	// how much one Read returns before it stops short of its limit.
	pageEvents = 1024
	readBytes  = 16 << 20
	// bulkKeys is how many keys one transaction of a trim or an import touches,
	// sharedBulk the same in a shared store: three operations each fit into the 128
	// that etcd takes if nobody says otherwise.
	bulkKeys   = 1024
	sharedBulk = 40
	// sendBytes is what the client may send: above what the store accepts
	// (8 MiB), so that the store's clear error comes first.
	sendBytes = 12 << 20
)

// Options change what Open builds. The zero value is fine.
type Options struct {
	// Prefix stands before every key; default DefaultPrefix.
	Prefix string
	// Clock gives the time of recording; default time.Now.
	Clock func() time.Time
	// Logger hears, at debug, when a follower starts over; default: nobody.
	Logger *slog.Logger
	// CallTimeout bounds one request; default DefaultCallTimeout.
	CallTimeout time.Duration
	// Serializable lets reads answer before a first read with quorum succeeded.
	// Set it only where the member is known not to be a fresh learner: on one
	// it shows an empty log.
	Serializable bool
	// Shared is for a store that others run and configure: all reads ask the
	// quorum, and what can be split is split to fit etcd's default limits.
	Shared bool
	// Seen is an event that the log is known to have had. A store that ends before
	// it holds another log, or lost this one, and gives ErrUnavailable.
	Seen eventlog.Seq
}

// Log is an [eventlog.Log] on etcd. It passes the suite in eventlog/logtest.
type Log struct {
	client *clientv3.Client
	opts   Options
	log    *slog.Logger
	keys   keys
	bulk   int // keys in one transaction that can have any size

	ctx   context.Context // ends with Close
	close context.CancelFunc
	turn  chan struct{} // one append at a time: writers here need not race each other
	last  recall        // of the append before; belongs to whoever has the turn

	echoes echoes

	mu    sync.Mutex
	ready bool         // a read with quorum succeeded
	seen  eventlog.Seq // the highest head any answer told
}

var _ eventlog.Log = (*Log)(nil)

// Open returns the log that client's store holds. It asks the store nothing, so
// it also succeeds while there is none. The client stays the caller's; build it
// from [ClientConfig].
func Open(client *clientv3.Client, opts Options) (*Log, error) {
	if client == nil {
		return nil, errors.New("open the log: no client")
	}
	if opts.Prefix == "" {
		opts.Prefix = DefaultPrefix
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.CallTimeout <= 0 {
		opts.CallTimeout = DefaultCallTimeout
	}
	l := &Log{client: client, opts: opts, log: opts.Logger, keys: keys(opts.Prefix), turn: make(chan struct{}, 1), bulk: bulkKeys, seen: opts.Seen}
	if opts.Shared {
		l.bulk = sharedBulk
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.ctx, l.close = context.WithCancel(context.Background())
	return l, nil
}

// ClientConfig is how a client of this log should be made: large enough
// messages, quick to reconnect to a store that was restarted, and silent.
func ClientConfig(endpoints ...string) clientv3.Config {
	return clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          DefaultCallTimeout,
		DialKeepAliveTime:    10 * time.Second, // the store refuses pings more often than every 5 s
		DialKeepAliveTimeout: 3 * time.Second,
		MaxCallSendMsgSize:   sendBytes,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: time.Second,
		})},
	}
}

// Close ends all followers and calls with ErrClosed. The client stays open.
func (l *Log) Close() { l.close() }

// local reads from whichever member is asked, if that is this node's own.
func (l *Log) local() []clientv3.OpOption {
	if l.opts.Shared {
		return nil
	}
	return []clientv3.OpOption{clientv3.WithSerializable()}
}

// call bounds one request by ctx, by the timeout, and by Close.
func (l *Log) call(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, l.opts.CallTimeout)
	stop := context.AfterFunc(l.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func (l *Log) usable(ctx context.Context) error {
	if l.ctx.Err() != nil || l.client.Ctx().Err() != nil {
		return eventlog.ErrClosed
	}
	return ctx.Err()
}
