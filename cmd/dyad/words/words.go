// Package words renders events and announcements as one line for people. It is
// pure. An event of a type that this release does not know shows its payload.
package words

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dyad/cmd/dyad/parse"
	"dyad/eventlog"
	"dyad/projections"
)

// maxRaw bounds how much of an unknown payload is shown, in bytes.
const maxRaw = 200

// Event says in one line what an event did.
func Event(d eventlog.Draft) string {
	text := ""
	if say, ok := renderers[d.Type]; ok {
		text = say(d)
	}
	if text == "" {
		if text = string(d.Data); len(text) > maxRaw {
			text = text[:maxRaw] + "…"
		}
	}
	if r := d.Repeats; r != nil {
		text += fmt.Sprintf(" (%d times since %s)", r.Count, r.First.UTC().Format(time.RFC3339))
	}
	return text
}

// of adapts a renderer of a payload. One that can't be read gives "", and the
// payload is shown as it is.
func of[T any](say func(now T, was *T) string) func(eventlog.Draft) string {
	return func(d eventlog.Draft) string {
		now, err := eventlog.Payload[T](d)
		if err != nil {
			return ""
		}
		var was *T
		if len(d.Prev) > 0 {
			var before T
			if json.Unmarshal(d.Prev, &before) == nil {
				was = &before
			}
		}
		return say(now, was)
	}
}

var renderers = map[eventlog.Type]func(eventlog.Draft) string{
	eventlog.TypeEpochStarted: of(func(p eventlog.EpochPayload, _ *eventlog.EpochPayload) string {
		return fmt.Sprintf("epoch %d begins: %s, written by %s", p.Epoch, p.Mode, strings.Join(p.Writers, ", "))
	}),
	eventlog.TypeNodeJoined: of(func(n eventlog.Node, was *eventlog.Node) string {
		if was != nil {
			return fmt.Sprintf("node %s is at %s", n.Name, n.Address)
		}
		return fmt.Sprintf("node %s at %s joined", n.Name, n.Address)
	}),
	eventlog.TypeNodeRemoved:     removed("node"),
	eventlog.TypeNodeDrained:     node("drained: it steps down"),
	eventlog.TypeNodeUndrained:   node("takes traffic again"),
	eventlog.TypeNodeFailback:    node("may have its share again"),
	eventlog.TypeSwitchDeclared:  of(switchLine),
	eventlog.TypeSwitchRemoved:   removed("switch"),
	eventlog.TypePeerSet:         of(peerLine),
	eventlog.TypePeerRemoved:     of(peerGone),
	eventlog.TypePoolSet:         of(poolLine),
	eventlog.TypePoolRemoved:     removed("pool"),
	eventlog.TypeServiceSet:      of(serviceLine),
	eventlog.TypeServiceRemoved:  removed("service"),
	eventlog.TypeVoterJoined:     of(func(n eventlog.Node, _ *eventlog.Node) string { return n.Name + " is to hold a third vote" }),
	eventlog.TypeVoterRemoved:    of(func(r eventlog.Removed, _ *eventlog.Removed) string { return r.Name + " is to give its vote back" }),
	eventlog.TypeWitnessSet:      of(func(w eventlog.Witness, _ *eventlog.Witness) string { return "witness " + w.URL + " added" }),
	eventlog.TypeWitnessRemoved:  removed("witness"),
	eventlog.TypeLogTrimmed:      of(trimmed),
	eventlog.TypeLogOrphaned:     of(orphaned),
	eventlog.TypeAgentStarted:    of(agentStarted),
	eventlog.TypeAgentStopped:    of(agentStopped),
	eventlog.TypeCommandRejected: of(rejected),
	eventlog.TypeSessionUp:       of(sessionUp),
	eventlog.TypeSessionDown:     of(sessionDown),
	eventlog.TypeNodeVerdict:     of(verdict),
	eventlog.TypeStanceChanged:   of(stance),
	eventlog.TypeRoutesAnnounced: of(routes),
	eventlog.TypeServiceHealth:   of(health),
	eventlog.TypeStoreDown:       of(storeDown),
	eventlog.TypeStoreUp:         of(storeUp),
	eventlog.TypeLogMode:         of(logMode),
	eventlog.TypeNodeFenced:      of(fenced),
	eventlog.TypeNextHopTaken:    nextHop("taken over"),
	eventlog.TypeNextHopGiven:    nextHop("given back"),
	eventlog.TypePulseDown:       of(pulseDown),
	eventlog.TypePulseUp:         of(pulseUp),
	eventlog.TypeAddressTaken:    addressMove("answers for %s"),
	eventlog.TypeAddressGiven:    addressMove("answers no more for %s"),
	eventlog.TypeAddressConflict: addressMove("another host has %s"),
	eventlog.TypeAddressCleared:  addressMove("no other host has %s"),
	eventlog.TypeDrillStarted:    drill("begins"),
	eventlog.TypeDrillEnded:      drill("ended"),

	eventlog.TypeRouterProbeStarted: of(probeStarted),
	eventlog.TypeRouterProbeEnded:   of(probeEnded),

	eventlog.TypeTokenCreated:       of(tokenCreated),
	eventlog.TypeTokenUsed:          of(tokenUsed),
	eventlog.TypeTokenRevoked:       of(tokenRevoked),
	eventlog.TypeAccessDenied:       of(accessDenied),
	eventlog.TypeCertificateIssued:  of(certificateIssued),
	eventlog.TypeCertificateRevoked: of(certificateRevoked),
	eventlog.TypeGossipKeyRotated:   of(gossipRotated),
}

func removed(noun string) func(eventlog.Draft) string {
	return of(func(r eventlog.Removed, _ *eventlog.Removed) string { return noun + " " + r.Name + " removed" })
}

func node(what string) func(eventlog.Draft) string {
	return of(func(n eventlog.NodeRef, _ *eventlog.NodeRef) string { return "node " + n.Name + " " + what })
}

func peerGone(r eventlog.Removed, _ *eventlog.Removed) string {
	return fmt.Sprintf("peer %s on %s removed", r.Address, r.Switch)
}

// changes lists the fields that differ, as "name old → new".
type changes []string

func (c *changes) add(name, was, now string) {
	if was != now {
		*c = append(*c, fmt.Sprintf("%s %s → %s", name, dash(was), dash(now)))
	}
}

func (c changes) line(what string) string {
	if len(c) == 0 {
		return what + " unchanged"
	}
	return what + ": " + strings.Join(c, ", ")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func num[N uint16 | uint32](n N) string { return strconv.FormatUint(uint64(n), 10) }

func peerLine(p eventlog.Peer, was *eventlog.Peer) string {
	what := fmt.Sprintf("peer %s on %s", p.Address, p.Switch)
	if was == nil {
		return fmt.Sprintf("%s added: peer ASN %d, own ASN %d, hold time %d s", what, p.PeerASN, p.SelfASN, p.HoldTime)
	}
	var c changes
	c.add("peer ASN", num(was.PeerASN), num(p.PeerASN))
	c.add("own ASN", num(was.SelfASN), num(p.SelfASN))
	c.add("hold time", num(was.HoldTime)+" s", num(p.HoldTime)+" s")
	return c.line(what)
}

func ranges(p eventlog.Pool) string {
	var out []string
	for _, r := range p.Ranges {
		out = append(out, r.String())
	}
	return strings.Join(out, ",")
}

func poolLine(p eventlog.Pool, was *eventlog.Pool) string {
	what := "pool " + p.Name
	if was == nil {
		s := what + " added: " + ranges(p)
		if p.Switch != "" {
			s += " on " + p.Switch
		}
		if p.Manual {
			s += ", manual"
		}
		return s
	}
	var c changes
	c.add("ranges", ranges(*was), ranges(p))
	c.add("switch", was.Switch, p.Switch)
	c.add("manual", strconv.FormatBool(was.Manual), strconv.FormatBool(p.Manual))
	return c.line(what)
}

// Addresses writes addresses with commas between them.
func Addresses(list []netip.Addr) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}

func serviceLine(v eventlog.Service, was *eventlog.Service) string {
	what := "service " + v.Name
	if was == nil {
		s := fmt.Sprintf("%s added: %s from pool %s, %s", what, Addresses(v.Addresses), v.Pool, v.Placement)
		if v.Preferred != "" {
			s += ", prefers " + v.Preferred
		}
		if v.Check != nil {
			s += ", check " + parse.CheckString(v.Check)
		}
		return s
	}
	var c changes
	c.add("addresses", Addresses(was.Addresses), Addresses(v.Addresses))
	c.add("pool", was.Pool, v.Pool)
	c.add("placement", string(was.Placement), string(v.Placement))
	c.add("prefers", was.Preferred, v.Preferred)
	c.add("pinned", strconv.FormatBool(was.Pinned), strconv.FormatBool(v.Pinned))
	c.add("check", Check(was.Check), Check(v.Check))
	return c.line(what)
}

// Check writes a check with its times and counts.
func Check(c *eventlog.Check) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s every %s, timeout %s, rise %d, fall %d", parse.CheckString(c), c.Interval, c.Timeout, c.Rise, c.Fall)
}

// Roles lists the roles of a switch.
func Roles(s eventlog.Switch) string {
	var out []string
	for _, r := range []struct {
		on   bool
		name string
	}{{s.Compute, "compute"}, {s.Storage, "storage"}, {s.Management, "management"}} {
		if r.on {
			out = append(out, r.name)
		}
	}
	return strings.Join(out, ",")
}

// Ports lists the ports of a switch as node:interface (alias).
func Ports(s eventlog.Switch) string {
	var out []string
	for _, p := range s.Ports {
		t := p.Node + ":" + p.Interface
		if p.Alias != "" && p.Alias != p.Interface {
			t += " (" + p.Alias + ")"
		}
		out = append(out, t)
	}
	return strings.Join(out, ", ")
}

func switchLine(s eventlog.Switch, was *eventlog.Switch) string {
	what := "switch " + s.Name
	if was == nil {
		return fmt.Sprintf("%s declared: %s; %s", what, dash(Roles(s)), dash(Ports(s)))
	}
	var c changes
	c.add("roles", Roles(*was), Roles(s))
	c.add("ports", Ports(*was), Ports(s))
	return c.line(what)
}

// Announcement says in one line what a node announces, or why it does not.
func Announcement(a projections.Announcement) string {
	if !a.Announced {
		return fmt.Sprintf("withholds %s on %s: %s", a.Prefix, a.Switch, a.Reason.Text)
	}
	if a.Claim.Mode != "" {
		return fmt.Sprintf("answers %s for %s on %s (%s): %s", strings.ToUpper(string(a.Protocol)), a.Prefix.Addr(), a.Switch, a.Interface, a.Reason.Text)
	}
	return fmt.Sprintf("announces %s to %s at %s: %s", a.Prefix, a.Peer, a.Rung, a.Reason.Text)
}
