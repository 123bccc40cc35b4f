package quorum

// witnessed: three members of the store vote, two nodes and a machine that only
// holds a vote. Any two write, by the store's own rules; so nobody takes the log
// over, whatever is silent, and whoever was away comes back as itself.
//
// Invariant: the third one votes only while both nodes have WITNESSED on their
// disks. A node that still took itself for one of a pair could be given the log
// by an authority, and the other two would write on.
//
// Invariant: the nodes are a pair again only after both of their stores count
// without the third vote: of a pair, whatever is acknowledged is on both disks.
func witnessed(r Record, s Sight) Move {
	m := Move{Record: r, Do: Wait, Mode: Witnessed}
	peer := func(mode Mode) bool { return s.Peer.heard() && s.Peer.Mode == mode }
	switch {
	case !s.Log.Writable:
		m.Mode, m.Why = Suspended, "fewer than two of the three voters answer"
		m.Fix = "start dyad on another of them; if two are lost for good: dyad restore"
	case s.Leaving || s.Log.Epoch != r.Epoch:
	case peer(Joining) && s.Peer.Epoch == r.Epoch && (s.Learner || !s.Third.Learning):
		// It came back without its disk, and takes the new epoch as its own.
		m.Do, m.Epoch = Pairup, r.Epoch+1
	case s.Third.Unwanted:
		m.Do = Shed
	case s.Third.Named && s.Learner && peer(Witnessed) && s.Peer.Epoch == r.Epoch:
		m.Do = Enlist
	case !s.Third.Named && !s.Third.Votes && !s.Third.Learning:
		m.Do, m.Epoch = Narrow, r.Epoch+1
	}
	return m
}
