// Package beacon is a third path between two nodes: each announces a host route
// of its own, whose communities reach the other node through a router.
//
// A route that a router holds proves nothing: it stays there for the hold time
// after its node died. Only an answer does. A node that misses the other one asks,
// by a new number in its own beacon; the other one repeats the number in its own.
// While both are well nothing changes, and routers have nothing to do.
package beacon

import (
	"time"
)

// The upper halves of a beacon's communities, of the ASNs for private use
// (RFC 6996). The lower halves are the question, the answer, and what the node is.
const (
	askHalf    uint32 = 64942
	answerHalf uint32 = 64943
	stateHalf  uint32 = 64944
)

// Word is what a beacon carries.
type Word struct {
	// Ask is this node's newest question, Answer the other node's that was seen last.
	Ask, Answer uint16
	// Mode is the number of a mode (see the pulse), 0–15; Epoch is the lowest 12
	// bits of the epoch.
	Mode  uint8
	Epoch uint16
}

// epochBits is how much of an epoch fits.
const epochBits = 12

// NewWord cuts an epoch to what fits.
func NewWord(ask, answer uint16, mode uint8, epoch uint64) Word {
	return Word{Ask: ask, Answer: answer, Mode: mode & 0xf, Epoch: uint16(epoch & (1<<epochBits - 1))}
}

// Communities is the word on the wire.
func (w Word) Communities() []uint32 {
	state := uint32(w.Mode&0xf)<<epochBits | uint32(w.Epoch)&(1<<epochBits-1)
	return []uint32{askHalf<<16 | uint32(w.Ask), answerHalf<<16 | uint32(w.Answer), stateHalf<<16 | state}
}

// Parse reads a word; ok is false if a part of it is missing. Other communities,
// which a router may have added, are passed over.
func Parse(communities []uint32) (w Word, ok bool) {
	seen := 0
	for _, c := range communities {
		low := uint16(c)
		switch c >> 16 {
		case askHalf:
			w.Ask, seen = low, seen|1
		case answerHalf:
			w.Answer, seen = low, seen|2
		case stateHalf:
			w.Mode, w.Epoch, seen = uint8(low>>epochBits), low&(1<<epochBits-1), seen|4
		}
	}
	return w, seen == 7
}

const (
	// AskEvery is how often a node asks while it misses the other one: each
	// question is an UPDATE for the routers.
	AskEvery = time.Second
	// AskSlowly is how often once nobody has answered for as long as Patience.
	AskSlowly = 30 * time.Second
	Patience  = time.Minute
	// kept is how many questions an answer may be about: routers take a while.
	kept = 16
)

// question is one that was asked.
type question struct {
	number uint16
	at     time.Time
}

// Watch is one node's part. It has no clock. Make it with a random first number:
// what a router still holds of an earlier start must answer nothing.
type Watch struct {
	asked []question // the newest last, at most kept
	first uint16
	since time.Time // since when the other node is missed; zero if it is not
	other Word
	heard bool
	alive time.Time
}

// NewWatch begins with that number.
func NewWatch(first uint16) *Watch { return &Watch{first: first} }

// Tick asks again if the other node is missed and the last question is old.
func (w *Watch) Tick(now time.Time, missed bool) {
	if !missed {
		w.since = time.Time{}
		return
	}
	if w.since.IsZero() {
		w.since = now
	}
	every := AskEvery
	if now.Sub(w.since) > Patience && now.Sub(w.alive) > Patience {
		every = AskSlowly
	}
	if len(w.asked) > 0 && now.Sub(w.asked[len(w.asked)-1].at) < every {
		return
	}
	// 0 is the answer of a node that was never asked.
	w.asked = append(w.asked, question{max(w.ask()+1, 1), now})
	if len(w.asked) > kept {
		w.asked = w.asked[1:]
	}
}

// ask is the newest question.
func (w *Watch) ask() uint16 {
	if n := len(w.asked); n > 0 {
		return w.asked[n-1].number
	}
	return w.first
}

// Hear takes the other node's beacon, as a router sends it now.
//
// Invariant: an answer proves that the other node was alive after the question,
// and no more: it counts from when that was asked.
func (w *Watch) Hear(word Word) {
	w.other, w.heard = word, true
	for _, q := range w.asked {
		if q.number == word.Answer && q.at.After(w.alive) {
			w.alive = q.at
		}
	}
}

// Numbers are what this node's own beacon must carry now.
func (w *Watch) Numbers() (ask, answer uint16) { return w.ask(), w.other.Ask }

// Alive is when the other node was last known to be alive; zero: never.
func (w *Watch) Alive() time.Time { return w.alive }

// Other is what the other node's beacon said last; ok is false if none came.
func (w *Watch) Other() (word Word, ok bool) { return w.other, w.heard }
