package words

import (
	"fmt"
	"strings"
	"time"

	"dyad/eventlog"
)

func agentStarted(p eventlog.AgentPayload, _ *eventlog.AgentPayload) string {
	return fmt.Sprintf("agent started, dyad %s, process %d", p.Version, p.PID)
}

func agentStopped(p eventlog.AgentPayload, _ *eventlog.AgentPayload) string {
	if p.Planned {
		return "agent stopped as planned"
	}
	return "agent stopped"
}

func rejected(p eventlog.RejectedPayload, _ *eventlog.RejectedPayload) string {
	return fmt.Sprintf("%s refused (%s): %s: %s", p.Command, p.Code, p.What, p.Why)
}

func sessionUp(p eventlog.SessionPayload, _ *eventlog.SessionPayload) string {
	return fmt.Sprintf("BGP session to %s up, hold time %d s", p.Peer, p.HoldTime)
}

func sessionDown(p eventlog.SessionPayload, _ *eventlog.SessionPayload) string {
	return because(fmt.Sprintf("BGP session to %s down", p.Peer), p.Why)
}

func verdict(p eventlog.VerdictPayload, _ *eventlog.VerdictPayload) string {
	s := fmt.Sprintf("%s is %s (was %s), says %s", p.Node, p.Verdict, dash(p.Was), dash(p.Sensor))
	if p.Silence > 0 {
		s += fmt.Sprintf(", silent for %s", p.Silence.Round(time.Millisecond))
	}
	if p.Kernel != "" {
		s += ", its kernel " + p.Kernel
	}
	return s
}

func nextHop(what string) func(eventlog.Draft) string {
	return of(func(p eventlog.NextHopPayload, _ *eventlog.NextHopPayload) string {
		return fmt.Sprintf("next hop %s of %s on %s %s", p.Address, p.Node, p.Interface, what)
	})
}

// addressShown bounds the addresses that one line names.
const addressShown = 3

func addressMove(format string) func(eventlog.Draft) string {
	return of(func(p eventlog.AddressPayload, _ *eventlog.AddressPayload) string {
		what := Addresses(p.Addresses[:min(len(p.Addresses), addressShown)])
		if n := len(p.Addresses) - addressShown; n > 0 {
			what += fmt.Sprintf(" and %d more", n)
		}
		s := fmt.Sprintf(format, what) + " on " + p.Interface
		if p.MAC != "" {
			s += ", says " + p.MAC
		}
		return because(s, p.Why)
	})
}

func pulseDown(p eventlog.PulsePayload, _ *eventlog.PulsePayload) string {
	return because("pulse down", p.Why)
}

func pulseUp(p eventlog.PulsePayload, _ *eventlog.PulsePayload) string {
	return fmt.Sprintf("pulse up after %d restarts", p.Restarts)
}

func stance(p eventlog.StancePayload, _ *eventlog.StancePayload) string {
	return because(fmt.Sprintf("stance %s → %s", dash(p.Was), p.Stance), p.Code)
}

func routes(p eventlog.RoutesPayload, _ *eventlog.RoutesPayload) string {
	var parts []string
	for _, n := range []struct {
		n    int
		what string
	}{{p.Announced, "announced"}, {p.Withdrawn, "withdrawn"}, {p.Changed, "changed"}} {
		if n.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.n, n.what))
		}
	}
	s := "routes: " + dash(strings.Join(parts, ", "))
	if p.Rung != "" {
		s += " at " + p.Rung
	}
	return s + ", in " + p.Took.Round(10*time.Microsecond).String()
}

func health(p eventlog.HealthPayload, _ *eventlog.HealthPayload) string {
	if p.Healthy {
		return "service " + p.Service + " is healthy here"
	}
	return because("service "+p.Service+" fails its check here", p.Why)
}

func storeDown(p eventlog.StorePayload, _ *eventlog.StorePayload) string {
	return because("store down", p.Why)
}

func fenced(p eventlog.FencePayload, _ *eventlog.FencePayload) string {
	if p.Off {
		return p.Node + " is switched off, says the fence"
	}
	return because(p.Node+" could not be switched off", p.Why)
}

func logMode(p eventlog.ModePayload, _ *eventlog.ModePayload) string {
	s := fmt.Sprintf("log %s → %s, epoch %d", dash(p.Was), p.Mode, p.Epoch)
	if p.Writable {
		return s + ", writable"
	}
	return because(s+", not writable", p.Why)
}

func storeUp(p eventlog.StorePayload, _ *eventlog.StorePayload) string {
	return fmt.Sprintf("store up after %d restarts", p.Restarts)
}

func drill(what string) func(eventlog.Draft) string {
	return of(func(p eventlog.DrillPayload, _ *eventlog.DrillPayload) string {
		s := "drill " + p.Drill
		if p.Node != "" {
			s += " on " + p.Node
		}
		s += " " + what
		if r, ok := p.Result["result"]; ok {
			s += fmt.Sprintf(": %v", r)
		}
		return s
	})
}

func probeStarted(p eventlog.RouterProbePayload, _ *eventlog.RouterProbePayload) string {
	return fmt.Sprintf("probe of router %s begins with %s", p.Peer, p.Prefix)
}

func probeEnded(p eventlog.RouterProbePayload, _ *eventlog.RouterProbePayload) string {
	return because(fmt.Sprintf("probe of router %s ended: %s", p.Peer, dash(p.Result)), p.Why)
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

func trimmed(p eventlog.TrimPayload, _ *eventlog.TrimPayload) string {
	return fmt.Sprintf("events up to %d leave the store; sealed segments keep them", p.UpTo.Seq)
}

func orphaned(p eventlog.OrphanedPayload, _ *eventlog.OrphanedPayload) string {
	s := fmt.Sprintf("%d events stood on one node alone", max(p.Count, len(p.Events)))
	if p.Node != "" {
		s = fmt.Sprintf("%d events, %d–%d, stood on %s alone", p.Count, p.From, p.Last, p.Node)
	}
	return s + "; see: dyad log orphans"
}
