package projections

import (
	"maps"
	"net/netip"
	"slices"

	"dyad/eventlog"
)

// Fold applies events to s and returns the state after them; s stays as it
// was. Facts and unknown types only move the head. An intent whose payload
// can't be read moves the head too and is counted in Skipped: the same on every
// node, so they stay equal.
func Fold(s State, events ...eventlog.Envelope) State {
	f := newFolder(s)
	for _, e := range events {
		f.s.Head = eventlog.HeadOf(e)
		f.apply(e.Draft)
	}
	return f.s
}

// folder is a State under change. It clones a map the first time it writes to
// it, so that folding a batch costs one copy of each table it touches and not
// one for every event.
type folder struct {
	s State

	nodes, drained, failbacks, switches, peers, pools, services, taken, tokens, revoked bool

	// preferred counts active-standby services for each node; nil until asked.
	preferred map[string]int
	// free remembers where the last search for a free address in a pool's range
	// ended. Valid as long as the folder only adds services.
	free map[eventlog.Range]netip.Addr
}

func newFolder(s State) *folder { return &folder{s: s} }

// own returns *m ready for writing.
func own[M ~map[K]V, K comparable, V any](m *M, owned *bool) M {
	if !*owned {
		*owned = true
		if *m == nil {
			*m = make(M)
		} else {
			*m = maps.Clone(*m)
		}
	}
	return *m
}

// apply folds one draft. It is total: what it can't read it skips.
func (f *folder) apply(d eventlog.Draft) {
	if err := f.dispatch(d); err != nil {
		f.s.Skipped++
	}
}

func (f *folder) dispatch(d eventlog.Draft) error {
	switch d.Type {
	case eventlog.TypeEpochStarted:
		return with(d, f.epochStarted)
	case eventlog.TypeNodeJoined:
		return with(d, f.nodeJoined)
	case eventlog.TypeNodeRemoved:
		return with(d, f.nodeRemoved)
	case eventlog.TypeNodeDrained:
		return with(d, func(p eventlog.NodeRef) { own(&f.s.Drained, &f.drained)[p.Name] = true })
	case eventlog.TypeNodeUndrained:
		return with(d, func(p eventlog.NodeRef) { delete(own(&f.s.Drained, &f.drained), p.Name) })
	case eventlog.TypeNodeFailback:
		return with(d, func(p eventlog.NodeRef) { own(&f.s.Failbacks, &f.failbacks)[p.Name]++ })
	case eventlog.TypeSwitchDeclared:
		return with(d, func(p eventlog.Switch) { own(&f.s.Switches, &f.switches)[p.Name] = p })
	case eventlog.TypeSwitchRemoved:
		return with(d, func(p eventlog.Removed) { delete(own(&f.s.Switches, &f.switches), p.Name) })
	case eventlog.TypePeerSet:
		return with(d, func(p eventlog.Peer) {
			own(&f.s.Peers, &f.peers)[PeerKey{p.Switch, p.Address}] = p
		})
	case eventlog.TypePeerRemoved:
		return with(d, func(p eventlog.Removed) {
			delete(own(&f.s.Peers, &f.peers), PeerKey{p.Switch, p.Address})
		})
	case eventlog.TypePoolSet:
		return with(d, func(p eventlog.Pool) { own(&f.s.Pools, &f.pools)[p.Name] = p; f.free = nil })
	case eventlog.TypePoolRemoved:
		return with(d, func(p eventlog.Removed) { delete(own(&f.s.Pools, &f.pools), p.Name) })
	case eventlog.TypeServiceSet:
		return with(d, f.serviceSet)
	case eventlog.TypeServiceRemoved:
		return with(d, f.serviceRemoved)
	case eventlog.TypeVoterJoined:
		return with(d, func(n eventlog.Node) { f.s.Voter = n })
	case eventlog.TypeVoterRemoved:
		return with(d, func(eventlog.Removed) { f.s.Voter = eventlog.Node{} })
	case eventlog.TypeWitnessSet:
		return with(d, func(p eventlog.Witness) { f.s.Witness = p })
	case eventlog.TypeWitnessRemoved:
		return with(d, func(eventlog.Removed) { f.s.Witness = eventlog.Witness{} })
	case eventlog.TypeLogTrimmed:
		return with(d, func(p eventlog.TrimPayload) { f.s.Floor = p.UpTo })
	case eventlog.TypeTokenCreated:
		return with(d, f.tokenCreated)
	case eventlog.TypeTokenUsed:
		return with(d, f.tokenUsed)
	case eventlog.TypeTokenRevoked:
		return with(d, func(p eventlog.TokenRef) { delete(own(&f.s.Tokens, &f.tokens), p.ID) })
	case eventlog.TypeCertificateRevoked:
		return with(d, f.certificateRevoked)
	}
	return nil
}

func with[T any](d eventlog.Draft, do func(T)) error {
	p, err := eventlog.Payload[T](d)
	if err == nil {
		do(p)
	}
	return err
}

func (f *folder) epochStarted(p eventlog.EpochPayload) {
	f.s.Head.Epoch = p.Epoch
	f.s.Mode, f.s.Writers = p.Mode, slices.Clone(p.Writers)
	if p.Cluster != "" {
		f.s.Cluster = p.Cluster
	}
}

func (f *folder) nodeJoined(n eventlog.Node) {
	own(&f.s.Nodes, &f.nodes)[n.Name] = n
	f.readmitted(n.Name)
}

// nodeRemoved forgets the node, its ports and whether it was drained.
func (f *folder) nodeRemoved(p eventlog.Removed) {
	delete(own(&f.s.Nodes, &f.nodes), p.Name)
	delete(own(&f.s.Drained, &f.drained), p.Name)
	delete(own(&f.s.Failbacks, &f.failbacks), p.Name)
	f.nodeRevoked(p)
	for name, sw := range f.s.Switches {
		kept := slices.DeleteFunc(slices.Clone(sw.Ports), func(q eventlog.Port) bool { return q.Node == p.Name })
		if len(kept) != len(sw.Ports) {
			sw.Ports = kept
			own(&f.s.Switches, &f.switches)[name] = sw
		}
	}
}

func (f *folder) serviceSet(v eventlog.Service) {
	services, taken := own(&f.s.Services, &f.services), own(&f.s.Taken, &f.taken)
	if old, ok := services[v.Name]; ok {
		f.forget(old)
	}
	services[v.Name] = v
	for _, a := range v.Addresses {
		taken[a] = v.Name
	}
	if f.preferred != nil && v.Preferred != "" {
		f.preferred[v.Preferred]++
	}
}

func (f *folder) serviceRemoved(p eventlog.Removed) {
	if old, ok := f.s.Services[p.Name]; ok {
		f.forget(old)
		delete(own(&f.s.Services, &f.services), p.Name)
	}
}

// forget frees what a service held.
func (f *folder) forget(old eventlog.Service) {
	taken := own(&f.s.Taken, &f.taken)
	for _, a := range old.Addresses {
		if taken[a] == old.Name {
			delete(taken, a)
		}
	}
	f.free = nil
	if f.preferred != nil && old.Preferred != "" {
		f.preferred[old.Preferred]--
	}
}
