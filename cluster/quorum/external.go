package quorum

// external: the log lies in a store that others run and that needs neither node.
// Whoever is a node of the cluster writes it while it answers; nobody takes it
// over, and no epoch follows the first.
//
// Invariant: a node that the log had once and has no more was removed. It never
// writes again, nor declares itself anew.
func external(r Record, s Sight) Move {
	m := Move{Record: r, Do: Wait, Mode: External}
	switch {
	case r.Mode == Stale:
	case s.Log.Self:
		m.Record = Record{Mode: External, Epoch: max(r.Epoch, s.Log.Epoch)}
	case r.Mode == External && r.Epoch > 0 && s.Log.Epoch > 0:
		m.Record = Record{Mode: Stale, Epoch: s.Log.Epoch}
	}
	switch {
	case m.Record.Mode == Stale:
		m.Mode, m.Why = Stale, "this node was removed from the cluster"
		m.Fix = "dyad token create on the other node, then dyad join here with an empty data directory"
	case !s.Log.Writable:
		m.Why, m.Fix = "the external store does not answer: "+s.Log.Trouble, "look at the etcd behind store.endpoints; changes go on when it answers"
	case m.Record.Mode == Joining:
		m.Mode, m.Why, m.Fix = Joining, "this node is declaring itself in the log", "wait a moment"
	}
	return m
}
