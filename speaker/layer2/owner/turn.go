package owner

import (
	"time"

	"dyad/neighbor"
)

// Turn does what is due.
func (m *Machine) Turn(now time.Duration) {
	m.some = false
	if !m.up {
		return
	}
	for i := range m.twins {
		t := &m.twins[i]
		if !t.mac.IsZero() || t.asked > TwinAsks {
			continue
		}
		if now >= t.next {
			if t.asked < TwinAsks {
				m.do(Ask, t.address)
			}
			t.asked++ // beyond TwinAsks: nobody answered the last one
			t.next = now + TwinGap
		}
		if t.asked <= TwinAsks {
			m.wake(t.next)
		}
	}
	for _, c := range m.list {
		for m.up && now >= c.next && m.turn(now, c) {
		}
		m.wake(c.next)
	}
}

func (m *Machine) wake(at time.Duration) {
	if !m.some || at < m.due {
		m.due, m.some = at, true
	}
}

// turn does the next thing for one address; true if there may be more at once.
func (m *Machine) turn(now time.Duration, c *claim) bool {
	switch c.phase {
	case probing:
		if c.left == 0 {
			m.clear(c)
			m.hold(now, c, "this node is its owner, and no other host has it")
			return true
		}
		m.do(Probe, c.Address)
		if c.left--; c.left > 0 {
			c.next = now + ProbeGap
		} else {
			c.next = now + ProbeWait
		}
	case watching:
		if c.unanswered >= WatchMisses {
			m.clear(c)
			m.hold(now, c, "nobody answers for it")
			return true
		}
		m.do(Ask, c.Address)
		c.unanswered++
		c.next = now + AskGap
		if m.quick(c) {
			c.next = now + AskQuick
		}
	case held:
		m.repeat(now, c)
	}
	return false
}

// repeat announces an address that is held. Every announcement after the burst
// goes with a probe: a stranger with a fixed address says nothing unless asked.
func (m *Machine) repeat(now time.Duration, c *claim) {
	m.do(Announce, c.Address)
	if c.left > 0 {
		if c.left--; c.left > 0 {
			c.next = now + BurstGap
			return
		}
		c.next = now + c.gap
		return
	}
	m.do(Probe, c.Address)
	if c.conflict {
		c.defended, c.defends = now, c.defends+1
		if now-c.heard > ConflictOver {
			m.clear(c)
		}
	}
	c.gap = min(2*c.gap, SlowMost)
	if c.conflict {
		c.gap = DefendInterval
	}
	c.next = now + c.gap
}

func (m *Machine) clear(c *claim) {
	if c.conflict {
		c.conflict = false
		m.tell(Cleared, c, c.stranger, "no other host answers for it")
	}
}

// quick: nobody but this node would notice soon.
func (m *Machine) quick(c *claim) bool { return c.Quick || c.Mode == Take }

// interval is how often a watched address is asked for.
func (m *Machine) interval(c *claim) time.Duration {
	d := WatchSlow
	switch {
	case m.quick(c):
		d = WatchQuick
	case c.Preferred:
		d = WatchSlow / 2
	}
	return max(d, time.Duration(len(m.list))*WatchEach)
}

// Hear takes what another station says.
func (m *Machine) Hear(now time.Duration, msg neighbor.Message) {
	if !m.up {
		return
	}
	if msg.Claim {
		m.learn(now, msg)
		if c := m.claims[msg.Address]; c != nil {
			m.claimed(now, c, msg.MAC)
			m.wake(c.next)
		}
	}
	if msg.Asks {
		if c := m.claims[msg.Target]; c != nil && c.phase == held {
			m.actions = append(m.actions, Action{Do: Answer, Address: c.Address, To: msg.MAC, Asker: msg.Address})
		}
	}
}

// learn notes at which MAC the other node is. A conflict with it was none.
func (m *Machine) learn(now time.Duration, msg neighbor.Message) {
	for i := range m.twins {
		t := &m.twins[i]
		if t.address != msg.Address || t.mac == msg.MAC {
			continue
		}
		t.mac = msg.MAC
		for _, c := range m.list {
			if c.conflict && c.stranger == msg.MAC {
				m.clear(c)
				if c.phase == probing {
					c.next = now
				}
				m.wake(c.next)
			}
		}
	}
}

// whose tells the other node's MAC from a stranger's. Before the other node was
// asked for its own MAC often enough, it may be either.
func (m *Machine) whose(mac neighbor.MAC) (isTwin, open bool) {
	for i := range m.twins {
		t := &m.twins[i]
		if t.mac == mac && !mac.IsZero() {
			return true, false
		}
		open = open || t.mac.IsZero() && t.asked <= TwinAsks
	}
	return false, open
}

// askAgain asks for what is not known of the other node: it may have come since.
// It tells whether anything is asked.
func (m *Machine) askAgain(now time.Duration) (asks bool) {
	for i := range m.twins {
		t := &m.twins[i]
		if t.mac.IsZero() && now-t.next >= TwinAgain {
			t.asked, t.next, asks = 0, now, true
			m.wake(now)
		}
	}
	return asks
}

// claimed: somebody else says that it has an address.
func (m *Machine) claimed(now time.Duration, c *claim, mac neighbor.MAC) {
	if c.phase == watching {
		c.unanswered, c.next = 0, now+m.interval(c)
	}
	isTwin, open := m.whose(mac)
	if !isTwin && !open && (!c.conflict || c.stranger != mac) {
		open = m.askAgain(now)
	}
	switch {
	case open && c.phase == probing:
		c.left = max(c.left, 1) // ask until it is known who answers
		return
	case isTwin, open:
		m.twinClaims(now, c, mac)
		return
	}
	if !c.conflict || c.stranger != mac {
		c.conflict, c.stranger = true, mac
		m.tell(Conflict, c, mac, "another host claims it")
	}
	c.heard = now
	switch {
	case c.phase == probing:
		c.left, c.next = Probes, now+DefendInterval
	case c.phase == held && (c.defends == 0 || now-c.defended >= DefendInterval):
		c.defended, c.defends = now, c.defends+1
		m.do(Announce, c.Address)
		if c.left == 0 { // the slow repetition is no second defence
			c.gap, c.next = DefendInterval, now+DefendInterval
		}
	}
}

func (m *Machine) twinClaims(now time.Duration, c *claim, mac neighbor.MAC) {
	c.twinHas = true
	switch {
	case c.phase == probing:
		m.hold(now, c, "this node is its owner, and the other one gives it up")
		m.Turn(now)
	case c.phase == held && !c.Firm:
		c.phase, c.unanswered, c.next = watching, 0, now+m.interval(c)
		m.tell(Given, c, mac, "the other node claims it")
	case c.phase == held && (c.defends == 0 || now-c.defended >= DefendGap):
		c.defended, c.defends = now, c.defends+1
		m.do(Announce, c.Address)
	}
}
