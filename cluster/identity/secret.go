package identity

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Secret is something that is never shown: printing, logging and encoding it give
// a mark in its place. Whoever needs it asks for it by name.
type Secret struct {
	// A function, because fmt calls no method of a field that is not exported,
	// and would print bytes.
	reveal func() []byte
}

// NewSecret wraps b, which must not be written to afterwards.
func NewSecret(b []byte) Secret { return Secret{func() []byte { return b }} }

// Reveal is the secret itself.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// redacted stands wherever a secret would.
const redacted = "(secret)"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON keeps secrets out of everything that is encoded.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
