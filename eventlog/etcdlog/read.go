package etcdlog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dyad/eventlog"
)

// Head implements [eventlog.Log].
func (l *Log) Head(ctx context.Context) (eventlog.Head, error) {
	if err := l.gate(ctx); err != nil {
		return eventlog.Head{}, err
	}
	return l.readHead(ctx, l.local()...)
}

// readHead reads the head and remembers it; an answer older than an earlier one
// is ErrUnavailable.
func (l *Log) readHead(ctx context.Context, opts ...clientv3.OpOption) (eventlog.Head, error) {
	cctx, cancel := l.call(ctx)
	defer cancel()
	least := l.known()
	resp, err := l.client.Get(cctx, l.keys.head(), opts...)
	if err != nil {
		return eventlog.Head{}, l.mapped(ctx, "read the head of the log", err)
	}
	h, err := decodeHead(resp.Kvs)
	if err != nil {
		return eventlog.Head{}, err
	}
	if err := l.saw(least, h.Seq); err != nil {
		return eventlog.Head{}, err
	}
	return h, nil
}

// gate lets reads pass once this member is known to have what the quorum had:
// a read with quorum waits until the member it was sent to has applied all that
// was committed before.
func (l *Log) gate(ctx context.Context) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	open := l.ready || l.opts.Serializable
	l.mu.Unlock()
	if open {
		return nil
	}
	if _, err := l.readHead(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = true
	return nil
}

// known is the highest head any answer told so far.
func (l *Log) known() eventlog.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// saw notes a head that was asked for when at least the other was known. An older
// one comes from a member that is behind. Others may have told a newer one
// meanwhile.
func (l *Log) saw(least, s eventlog.Seq) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen = max(l.seen, s); s < least {
		return fmt.Errorf("%w: the store is catching up: it has %d events of at least %d", eventlog.ErrUnavailable, s, least)
	}
	return nil
}

// Read implements [eventlog.Log]. Events of more than 16 MiB in sum come in
// several answers, each short of its limit.
func (l *Log) Read(ctx context.Context, after eventlog.Seq, limit int) ([]eventlog.Envelope, error) {
	if err := l.gate(ctx); err != nil {
		return nil, err
	}
	var out []eventlog.Envelope
	limit = min(limit, eventlog.MaxPage)
	for bytes := 0; len(out) < limit && bytes < readBytes; {
		p, err := l.page(ctx, after, min(limit-len(out), pageEvents))
		if err != nil {
			return nil, err
		}
		if len(out) > 0 {
			if _, err := eventlog.VerifyRun(eventlog.HeadOf(out[len(out)-1]), p.events); err != nil {
				return nil, err
			}
		}
		out, bytes = append(out, p.events...), bytes+p.bytes
		if len(p.events) == 0 || p.end() {
			break
		}
		after = p.events[len(p.events)-1].Seq
	}
	return out, nil
}

// page is a run of events, and the head, of one revision of the store.
type page struct {
	events   []eventlog.Envelope
	head     eventlog.Head
	revision int64
	bytes    int
}

// end tells whether the page reaches the head.
func (p page) end() bool {
	return len(p.events) == 0 || p.events[len(p.events)-1].Seq == p.head.Seq
}

// page reads up to limit events after the given one. Events within it follow
// each other, and none is missing at either end. From before the floor it is a
// *TrimmedError, also while events below it have not been swept away yet.
func (l *Log) page(ctx context.Context, after eventlog.Seq, limit int) (page, error) {
	from, to := l.keys.after(after)
	cctx, cancel := l.call(ctx)
	defer cancel()
	least := l.known()
	resp, err := l.client.Txn(cctx).Then(
		clientv3.OpGet(l.keys.head(), l.local()...),
		clientv3.OpGet(from, append(l.local(), to, clientv3.WithLimit(int64(limit)))...),
		clientv3.OpGet(l.keys.floor(), l.local()...),
	).Commit()
	if err != nil {
		return page{}, l.mapped(ctx, "read the log", err)
	}
	floor, err := decodeHead(resp.Responses[2].GetResponseRange().Kvs)
	if err != nil {
		return page{}, err
	}
	p := page{revision: resp.Header.Revision}
	if p.head, err = decodeHead(resp.Responses[0].GetResponseRange().Kvs); err != nil {
		return page{}, err
	}
	if err := l.saw(least, p.head.Seq); err != nil {
		return page{}, err
	}
	if after < floor.Seq {
		return page{}, &eventlog.TrimmedError{Floor: floor}
	}
	last := after
	for i, kv := range resp.Responses[1].GetResponseRange().Kvs {
		e, err := l.keys.decodeEvent(kv)
		if err != nil {
			return page{}, err
		}
		if e.Seq != last+1 {
			return page{}, fmt.Errorf("%w: event %d follows %d", eventlog.ErrGap, e.Seq, last)
		}
		if i > 0 {
			if err := eventlog.Verify(eventlog.HeadOf(p.events[i-1]), e); err != nil {
				return page{}, err
			}
		}
		p.events, p.bytes, last = append(p.events, e), p.bytes+len(kv.Value), e.Seq
	}
	if len(p.events) < limit && last < p.head.Seq {
		return page{}, fmt.Errorf("%w: the log ends with event %d and should end with %d", eventlog.ErrGap, last, p.head.Seq)
	}
	if p.end() && len(p.events) > 0 && p.events[len(p.events)-1].Hash != p.head.Hash {
		return page{}, fmt.Errorf("%w: event %d is not the one the head names", eventlog.ErrCorrupt, last)
	}
	return p, nil
}
