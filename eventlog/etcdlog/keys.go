package etcdlog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
)

// keys names the keys below a prefix.
type keys string

func (k keys) events() string                { return string(k) + "log/" }
func (k keys) event(s eventlog.Seq) string   { return fmt.Sprintf("%slog/%016x", string(k), uint64(s)) }
func (k keys) head() string                  { return string(k) + "head" }
func (k keys) floor() string                 { return string(k) + "floor" }
func (k keys) importing() string             { return string(k) + "importing" }
func (k keys) epoch() string                 { return string(k) + "epoch" }
func (k keys) stream(name string) string     { return string(k) + "stream/" + name }
func (k keys) idempotency(key string) string { return string(k) + "idem/" + key }

// after is the range of all events after s.
func (k keys) after(s eventlog.Seq) (string, clientv3.OpOption) {
	return k.event(s + 1), clientv3.WithRange(clientv3.GetPrefixRangeEnd(k.events()))
}

// decodeEvent reads the event under kv's key.
func (k keys) decodeEvent(kv *mvccpb.KeyValue) (eventlog.Envelope, error) {
	e, err := eventlog.Decode(kv.Value)
	switch {
	case err != nil:
		return e, fmt.Errorf("%s: %w", kv.Key, err)
	case string(kv.Key) != k.event(e.Seq):
		return e, fmt.Errorf("%w: %s holds event %d", eventlog.ErrCorrupt, kv.Key, e.Seq)
	}
	return e, writtenOnce(kv)
}

func decodeHead(kvs []*mvccpb.KeyValue) (eventlog.Head, error) {
	var h eventlog.Head
	if len(kvs) == 0 {
		return h, nil
	}
	if err := json.Unmarshal(kvs[0].Value, &h); err != nil {
		return h, fmt.Errorf("%w: %s: %w", eventlog.ErrCorrupt, kvs[0].Key, err)
	}
	return h, nil
}

// sequence reads the sequence in the key of an event.
func (k keys) sequence(key []byte) (eventlog.Seq, bool) {
	hex, ok := strings.CutPrefix(string(key), k.events())
	n, err := strconv.ParseUint(hex, 16, 64)
	return eventlog.Seq(n), ok && err == nil && string(key) == k.event(eventlog.Seq(n))
}

// decodeNumber reads a counter; ok is false if there is none.
func decodeNumber(kvs []*mvccpb.KeyValue) (n uint64, ok bool, err error) {
	if len(kvs) == 0 {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(string(kvs[0].Value), 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("%w: %s holds %q, not a number", eventlog.ErrCorrupt, kvs[0].Key, kvs[0].Value)
	}
	return n, true, nil
}

func number[T ~uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

// value is the stored value; empty if there is none.
func value(kvs []*mvccpb.KeyValue) string {
	if len(kvs) == 0 {
		return ""
	}
	return string(kvs[0].Value)
}

func modRevision(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].ModRevision
}
