package labtest

import (
	"os"
	"testing"
)

// long skips what make cases runs: the groups that take minutes.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("DYAD_CASES") == "" {
		t.Skip("takes minutes; make cases runs it")
	}
}
