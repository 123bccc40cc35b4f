package eventlog

import "slices"

// Type is the wire name of an event. Wire names are never renamed or reused;
// a new meaning gets a new name or a higher payload version.
type Type string

// Class separates events that need the log's total order from those that do
// not.
type Class string

// The two classes of event.
const (
	Intent Class = "intent"
	Fact   Class = "fact"
)

// Intents: what the cluster should do from here on.
const (
	TypeEpochStarted   Type = "epoch.started"
	TypeNodeJoined     Type = "node.joined"
	TypeNodeRemoved    Type = "node.removed"
	TypeNodeDrained    Type = "node.drained"
	TypeNodeUndrained  Type = "node.undrained"
	TypeNodeFailback   Type = "node.failback"
	TypeSwitchDeclared Type = "switch.declared"
	TypeSwitchRemoved  Type = "switch.removed"
	TypePeerSet        Type = "peer.set"
	TypePeerRemoved    Type = "peer.removed"
	TypePoolSet        Type = "pool.set"
	TypePoolRemoved    Type = "pool.removed"
	TypeServiceSet     Type = "service.set"
	TypeServiceRemoved Type = "service.removed"
	TypeVoterJoined    Type = "voter.joined"
	TypeVoterRemoved   Type = "voter.removed"
	TypeWitnessSet     Type = "witness.set"
	TypeWitnessRemoved Type = "witness.removed"
	TypeLogTrimmed     Type = "log.trimmed"
	TypeTokenCreated   Type = "token.created"
	TypeTokenUsed      Type = "token.used"
	TypeTokenRevoked   Type = "token.revoked"

	TypeCertificateRevoked Type = "certificate.revoked"
)

// Facts: what one node saw and did.
const (
	TypeAgentStarted    Type = "agent.started"
	TypeAgentStopped    Type = "agent.stopped"
	TypeCommandRejected Type = "command.rejected"
	TypeSessionUp       Type = "session.up"
	TypeSessionDown     Type = "session.down"
	TypeNodeVerdict     Type = "node.verdict"
	TypeStanceChanged   Type = "stance.changed"
	TypeRoutesAnnounced Type = "routes.announced"
	TypeServiceHealth   Type = "service.health"
	TypeStoreDown       Type = "store.down"
	TypeStoreUp         Type = "store.up"
	TypeLogMode         Type = "log.mode"
	TypeNodeFenced      Type = "node.fenced"
	TypeNextHopTaken    Type = "nexthop.taken"
	TypeNextHopGiven    Type = "nexthop.given"
	TypePulseDown       Type = "pulse.down"
	TypePulseUp         Type = "pulse.up"
	TypeDrillStarted    Type = "drill.started"
	TypeDrillEnded      Type = "drill.ended"
	TypeLogOrphaned     Type = "log.orphaned"
	TypeAddressTaken    Type = "address.taken"
	TypeAddressGiven    Type = "address.given"
	TypeAddressConflict Type = "address.conflict"
	TypeAddressCleared  Type = "address.cleared"

	TypeRouterProbeStarted Type = "router.probe-started"
	TypeRouterProbeEnded   Type = "router.probe-ended"

	TypeAccessDenied      Type = "access.denied"
	TypeCertificateIssued Type = "certificate.issued"
	TypeGossipKeyRotated  Type = "gossip.key-rotated"
)

var intents = []Type{
	TypeEpochStarted, TypeNodeJoined, TypeNodeRemoved, TypeNodeDrained, TypeNodeUndrained, TypeNodeFailback,
	TypeSwitchDeclared, TypeSwitchRemoved, TypePeerSet, TypePeerRemoved,
	TypePoolSet, TypePoolRemoved, TypeServiceSet, TypeServiceRemoved,
	TypeVoterJoined, TypeVoterRemoved, TypeWitnessSet, TypeWitnessRemoved, TypeLogTrimmed,
	TypeTokenCreated, TypeTokenUsed, TypeTokenRevoked, TypeCertificateRevoked,
}

var facts = []Type{
	TypeAgentStarted, TypeAgentStopped, TypeCommandRejected, TypeSessionUp, TypeSessionDown,
	TypeNodeVerdict, TypeStanceChanged, TypeRoutesAnnounced, TypeServiceHealth,
	TypeStoreDown, TypeStoreUp, TypeLogMode, TypeNodeFenced, TypeDrillStarted, TypeDrillEnded, TypeLogOrphaned,
	TypeAccessDenied, TypeCertificateIssued, TypeGossipKeyRotated,
	TypeNextHopTaken, TypeNextHopGiven, TypePulseDown, TypePulseUp,
	TypeRouterProbeStarted, TypeRouterProbeEnded,
	TypeAddressTaken, TypeAddressGiven, TypeAddressConflict, TypeAddressCleared,
}

// Class tells whether t is an intent or a fact. A type this release does not
// know counts as a fact: folding it changes nothing, and it is shown raw.
func (t Type) Class() Class {
	if slices.Contains(intents, t) {
		return Intent
	}
	return Fact
}

// Known tells whether this release knows the type.
func (t Type) Known() bool { return slices.Contains(intents, t) || slices.Contains(facts, t) }

// Types lists every type this release knows, intents first.
func Types() []Type { return append(slices.Clone(intents), facts...) }
