package failover

import (
	"fmt"
	"strings"
	"time"
)

// String shows what the machine holds, a line for itself and one for each other
// node, for logs and dialogues. Times are RFC 3339 in UTC. The format is for
// people and may change.
func (m *Machine) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s: %s", m.cfg.Self, m.view.Stance, m.view.Reason.Code, m.view.Reason.Text)
	if m.ready() {
		b.WriteString(", ready")
	}
	for _, name := range m.others() {
		fmt.Fprintf(&b, "\n%s %s", name, m.verdict(name))
		if p := m.peers[name]; p != nil {
			b.WriteString(p.String())
		}
	}
	return b.String()
}

// String is what is known of a peer beyond its verdict.
func (p *peer) String() string {
	var b strings.Builder
	if r := p.report; r.Boot != "" {
		fmt.Fprintf(&b, ", boot %s report %d %s", r.Boot, r.N, r.Stance)
	}
	if !p.readySince.IsZero() {
		b.WriteString(", ready since " + p.readySince.UTC().Format(time.RFC3339))
	}
	if p.owing {
		fmt.Fprintf(&b, ", owes %s", p.owes)
	}
	if n := len(p.deaths); n > 0 {
		fmt.Fprintf(&b, ", deaths %d", n)
	}
	if p.gone != "" {
		b.WriteString(", left as " + p.gone)
	}
	return b.String()
}
