package cluster

import (
	"fmt"
	"slices"

	"dyad/eventlog"
	"dyad/failover"
	"dyad/projections"
	"dyad/speaker"
)

var moveTypes = map[speaker.MoveKind]eventlog.Type{
	speaker.MoveTaken: eventlog.TypeAddressTaken, speaker.MoveGiven: eventlog.TypeAddressGiven,
	speaker.MoveConflict: eventlog.TypeAddressConflict, speaker.MoveCleared: eventlog.TypeAddressCleared,
}

// onMove records who answers for addresses on a segment, and why.
func (a *Agent) onMove(m speaker.Move) {
	a.rec.fact(failover.Fact{
		Type: moveTypes[m.Kind], Stream: "address/" + a.p.Config.Node + "/" + m.Interface, At: a.p.Now(), Reason: m.Why,
		Data: eventlog.AddressPayload{Addresses: m.Addresses, Switch: m.Switch, Interface: m.Interface, MAC: m.MAC, Why: m.Why},
	})
}

// standing puts into announcements what has become of them on the segments: there
// the wire has the last word on who answers.
func (a *Agent) standing(anns projections.Announcements) []projections.Announcement {
	out := slices.Clone(anns)
	if a.p.Layer2 == nil || !slices.ContainsFunc(out, func(an projections.Announcement) bool { return an.Claim.Mode != "" }) {
		return out
	}
	type key struct{ iface, address string }
	held := map[key]speaker.Holding{}
	for _, h := range a.p.Layer2.Holdings() {
		held[key{h.Interface, h.Address.String()}] = h
	}
	for i := range out {
		an := &out[i]
		h, ok := held[key{an.Interface, an.Prefix.Addr().String()}]
		if an.Claim.Mode == "" || !ok {
			continue
		}
		switch {
		case h.Stranger != "":
			an.Reason = projections.Reason{Code: "conflict", Text: "the host with the MAC " + h.Stranger + " has it too"}
		case an.Announced && !h.Held:
			an.Reason = projections.Reason{Code: "not-held", Text: h.Why}
		case !an.Announced && h.Held:
			an.Reason = projections.Reason{Code: "held", Text: "until the other node claims it; " + an.Reason.Text}
		}
		an.Announced = h.Held
	}
	return out
}

func addressConflict(d diagnosis) (out []string) {
	for _, h := range d.holdings {
		if h.Stranger != "" {
			out = append(out, fmt.Sprintf("%s on %s is also claimed by the host with the MAC %s; take the address away from that host, or exclude it from the pool: dyad pool list",
				h.Address, h.Interface, h.Stranger))
		}
	}
	return out
}

func layer2Trouble(d diagnosis) []string { return d.trouble }
