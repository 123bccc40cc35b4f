package sim

import (
	"slices"
	"time"

	"dyad/cluster/quorum"
	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
)

// The store of a node keeps its promise: what a majority of the voters has stays.
// What a crash does to its disk is another test's business (dyad/chaos/torture).
type store struct {
	running bool
	members membership
	pupil   bool // the other node was admitted here as a learner
	applied int  // of the log
}

type membership uint8

const (
	absent membership = iota
	alone
	both
	learner
)

const (
	lookEvery   = 100 * time.Millisecond
	holdDown    = 3 * time.Second
	deedRetry   = time.Second
	serveDelay  = 500 * time.Microsecond
	fsyncTime   = time.Millisecond
	witnessTrip = 5 * time.Millisecond
)

// watch is the part of the steward that turns what is seen into durations.
type watch struct {
	silent, refusing time.Duration // since when; -1 while not
	proven           quorum.Record
	told             failover.Log
}

func (n *node) bootStore() {
	n.record = quorum.Boot(n.record, n.store.members == alone)
	n.agent.watch = watch{silent: -1, refusing: -1}
	n.witness = quorum.WitnessSight{}
	a, w := n.agent, n.w
	w.after(w.between(30*time.Millisecond, 150*time.Millisecond), func() {
		if n.agent == a {
			n.store.running = n.store.members != absent && n.record.Mode != quorum.Stale && n.record.Step != quorum.Granted
			w.holds()
			w.dirty()
		}
	})
}

func (w *world) serving(i int) bool { return w.nodes[i].store.running && w.nodes[i].answers() }

// connected: the two stores are one pair, and can commit.
func (w *world) connected() bool {
	return w.linked() && w.serving(0) && w.serving(1) && w.nodes[0].store.members == both && w.nodes[1].store.members == both
}

// teaches: the other node reads the log from node i.
func (w *world) teaches(i int) bool {
	return w.linked() && w.serving(i) && w.serving(1-i) && w.nodes[1-i].store.members == learner && w.nodes[i].store.pupil
}

func (w *world) writable(i int) bool {
	return w.serving(i) && (w.nodes[i].store.members == alone || w.connected())
}

// holds checks that there is at most one sole writer.
//
// Invariant: no two stores can commit without each other.
func (w *world) holds() {
	a, b := w.nodes[0].store, w.nodes[1].store
	if a.running && b.running && a.members == alone && b.members == alone {
		w.broken("two sole writers: %s and %s", w.nodes[0].record.Mode, w.nodes[1].record.Mode)
	}
}

// append commits drafts at node i, or not.
func (w *world) append(i int, drafts ...eventlog.Draft) error {
	n := w.nodes[i]
	if !w.writable(i) || n.agent == nil {
		return eventlog.ErrUnavailable
	}
	if n.store.applied != len(w.log) {
		w.broken("%s writes after event %d, and %d were acknowledged", names[i], n.store.applied, len(w.log))
		return eventlog.ErrUnavailable
	}
	b := eventlog.Batch{Drafts: drafts, Epoch: n.agent.state.Head.Epoch}
	sealed, err := eventlog.SealBatch(eventlog.Base{Head: w.head, Streams: w.streams, Keys: w.keys}, w.wall(i), b)
	if err != nil {
		return err
	}
	for _, e := range sealed {
		w.log = append(w.log, e)
		w.head = eventlog.HeadOf(e)
		w.streams[e.Stream]++
		if e.Key != "" {
			w.keys[e.Key] = e.Seq
		}
	}
	n.store.applied = len(w.log)
	if w.connected() || w.teaches(i) {
		w.nodes[1-i].store.applied = len(w.log)
	}
	for k := range w.nodes {
		w.after(serveDelay, func() { w.serve(k) })
	}
	return nil
}

// serve lets an agent read what its store can serve: one without a leader serves
// nothing.
func (w *world) serve(i int) {
	n := w.nodes[i]
	a := n.agent
	if a == nil || !a.responsive() || !w.writable(i) && !w.teaches(1-i) {
		return
	}
	if at := int(a.state.Head.Seq); at < n.store.applied {
		a.fold(w.log[at:n.store.applied])
		w.dirty()
	}
	if !a.synced && a.state.Head == w.head {
		a.synced = true
		w.say(i, "in sync at %d", a.state.Head.Seq)
		a.step(a.tell(failover.Synced{OK: true})...)
		w.touch()
	}
}

// dirty has both stewards look at their next turn.
func (w *world) dirty() {
	for i, n := range w.nodes {
		if n.lookDue || n.agent == nil {
			continue
		}
		n.lookDue = true
		w.after(lookEvery-(w.now-n.agent.born)%lookEvery, func() {
			n.lookDue = false
			w.look(i)
		})
	}
}

func (w *world) look(i int) {
	n := w.nodes[i]
	a := n.agent
	if a == nil || !a.responsive() {
		return
	}
	w.serve(i)
	w.copySoon(i)
	if n.doing {
		return
	}
	s := w.sight(i)
	m := quorum.Next(n.record, s)
	if m.Record != n.record {
		w.say(i, "record %s %d %s, %s", m.Record.Mode, m.Record.Epoch, m.Record.Step, m.Do)
		n.record = m.Record
	}
	if told := (failover.Log{Epoch: n.record.Epoch, Mode: string(m.Mode)}); told != a.watch.told {
		a.watch.told = told
		a.step(told)
	}
	if m.Do == quorum.Wait {
		if !s.Log.Writable && max(s.Peer.Silent, s.Log.Refusing) <= holdDown+lookEvery {
			w.dirty() // time alone may change the answer
		}
		return
	}
	w.deed(i, m)
}

// sight is what node i sees of the log, its store and the other node.
func (w *world) sight(i int) quorum.Sight {
	n := w.nodes[i]
	a, peer := n.agent, names[1-i]
	s := quorum.Sight{Self: names[i], HoldDown: holdDown, Witness: n.witness}
	s.Witness.Configured = w.hasWitness
	s.Witness.Claim.Cluster = cluster
	st := a.state
	self := slices.Contains(st.Writers, names[i])
	s.Log = quorum.LogSight{
		Epoch: st.Head.Epoch, Mode: quorum.Mode(st.Mode), Self: self, Others: slices.Contains(st.Writers, peer),
		Writable: w.writable(i), Shared: n.store.members == both,
	}
	s.Learner = w.teaches(i) && w.nodes[1-i].store.applied == n.store.applied
	heard := a.view.Nodes[peer] == projections.Alive
	s.Peer.Name = peer
	s.Peer.Epoch, s.Peer.Mode = a.peerSaid.Epoch, quorum.Mode(a.peerSaid.Mode)
	since := func(at *time.Duration, calm bool) time.Duration {
		switch {
		case calm:
			*at = -1
			return 0
		case *at < 0:
			*at = w.now
		}
		return w.now - *at
	}
	s.Peer.Silent = since(&a.watch.silent, heard)
	if !heard {
		s.Peer.Silent = max(s.Peer.Silent, 1)
	}
	s.Log.Refusing = since(&a.watch.refusing, s.Log.Writable)
	at := quorum.Record{Mode: n.record.Mode, Epoch: n.record.Epoch}
	if s.Log.Writable && n.record.Writes() {
		a.watch.proven = at
	}
	s.Proven = a.watch.proven == at
	return s
}

// copySoon moves facts from the journal into the log when that can be written.
func (w *world) copySoon(i int) {
	n := w.nodes[i]
	if n.copyDue || len(n.journal) == 0 || !w.writable(i) || n.agent == nil {
		return
	}
	n.copyDue = true
	w.after(2*time.Millisecond+n.slow, func() {
		n.copyDue = false
		if n.agent == nil || !n.agent.responsive() || len(n.journal) == 0 {
			return
		}
		page := n.journal[:min(len(n.journal), 64)]
		if err := w.append(i, page...); err != nil {
			w.dirty()
			return
		}
		n.journal = slices.Clone(n.journal[len(page):])
		w.copySoon(i)
	})
}
