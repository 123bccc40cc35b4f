package beat

import "testing"

// b's ends of the cables are pulled: a loses carrier. One path down is no news of
// b; both down are news of a alone, by its own end and by b's. (The kernel holds
// such news back for up to a second if it had some a moment ago; a suspicion that
// was there first is withdrawn.)
func TestCarrierIsLost(t *testing.T) {
	w := newWire(t)
	a, b := w.pair()
	w.ip("-n", w.ns["b"], "link", "set", "i", "down")
	until(t, "the path to be down on both", func() bool {
		return !a.Status().Paths["interlink"].Up && !b.Status().Paths["interlink"].Up
	})
	w.ip("-n", w.ns["b"], "link", "set", "i", "up")
	until(t, "the path to be up again", func() bool { return a.wired() && b.wired() })
	for _, kind := range []string{"PulseSuspect", "PulseSevered", "Gateway"} {
		if a.has(kind)() || b.has(kind)() {
			t.Errorf("one cable was out, and that led to %s", kind)
		}
	}

	w.ip("-n", w.ns["b"], "link", "set", "i", "down")
	w.ip("-n", w.ns["b"], "link", "set", "r", "down")
	for name, e := range map[string]*end{"a": a, "b": b} {
		until(t, name+" to know that it is cut off", e.has("PulseSevered"))
		until(t, name+" to say that it reaches no router", e.has("Gateway"))
		e.forget()
	}
	// The address of IPv6 went with the link, so two paths come back.
	w.ip("-n", w.ns["b"], "link", "set", "r", "up")
	w.ip("-n", w.ns["b"], "link", "set", "i", "up")
	for name, e := range map[string]*end{"a": a, "b": b} {
		until(t, name+" to hear the other node", e.has("PulseHeard"))
		until(t, name+" to reach somebody", e.has("Gateway"))
		until(t, name+" to hear it on both", func() bool {
			paths := e.Status().Paths
			return paths["interlink"].Up && paths["r"].Up
		})
	}
}
