package words

import (
	"fmt"
	"time"

	"dyad/eventlog"
)

func tokenCreated(p eventlog.TokenPayload, _ *eventlog.TokenPayload) string {
	return fmt.Sprintf("token %s made, good for a %s until %s", p.ID, dash(p.Purpose), p.Expires.UTC().Format(time.RFC3339))
}

func tokenUsed(p eventlog.TokenUse, _ *eventlog.TokenUse) string {
	return fmt.Sprintf("token %s used by %s", p.ID, p.Node)
}

func tokenRevoked(p eventlog.TokenRef, _ *eventlog.TokenRef) string {
	return fmt.Sprintf("token %s revoked", p.ID)
}

func accessDenied(p eventlog.DeniedPayload, _ *eventlog.DeniedPayload) string {
	return fmt.Sprintf("denied: %s, which takes the role %s (is %s)", p.What, p.Need, dash(p.Have))
}

func certificateIssued(p eventlog.CertificatePayload, _ *eventlog.CertificatePayload) string {
	s := fmt.Sprintf("certificate for %s %s", dash(p.Kind), p.Name)
	if p.Role != "" {
		s += ", role " + p.Role
	}
	return s + ", valid until " + p.Expires.UTC().Format(time.RFC3339)
}

func certificateRevoked(p eventlog.RevokedPayload, _ *eventlog.RevokedPayload) string {
	if p.Fingerprint != "" {
		return fmt.Sprintf("certificate %.12s revoked", p.Fingerprint)
	}
	return "certificates of " + p.Name + " revoked"
}

func gossipRotated(p eventlog.KeyRef, _ *eventlog.KeyRef) string {
	return fmt.Sprintf("gossip key is now %.12s", p.Fingerprint)
}
