package sim

import "time"

// event is something that will happen. Either do is set, or kind says what it is
// for the pulse of a node.
type event struct {
	at   time.Duration
	seq  uint64
	do   func()
	kind kind
	node int
	path int
	gen  uint64
	d    *datagram
}

type kind uint8

const (
	beatWake   kind = iota + 1 // the pulse's loop has something due
	beatArrive                 // a heartbeat arrives
	beatRefuse                 // the other kernel refuses one
)

// queue is a heap of events by time; of two at the same time the earlier one
// pushed comes first.
type queue struct{ events []event }

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (q *queue) push(e event) {
	q.events = append(q.events, e)
	h := q.events
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *queue) pop() event {
	h := q.events
	top, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	q.events = h
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			return top
		}
		if down+1 < last && h[down+1].before(&h[down]) {
			down++
		}
		if !h[down].before(&h[i]) {
			return top
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
}

// next is the time of the first event; false if there is none.
func (q *queue) next() (time.Duration, bool) {
	if len(q.events) == 0 {
		return 0, false
	}
	return q.events[0].at, true
}
