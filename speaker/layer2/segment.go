package layer2

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"dyad/neighbor"
	"dyad/projections"
	"dyad/speaker"
	"dyad/speaker/layer2/owner"
)

// maxFrame is what is read of a frame; more is no address resolution.
const maxFrame = 512

// segment is one interface with its machine.
type segment struct {
	s     *Speaker
	name  string // as wished
	sw    string
	wake  chan struct{} // room for one: the machine's next turn has moved
	done  chan struct{}
	wg    sync.WaitGroup
	start time.Time

	mu      sync.Mutex
	machine *owner.Machine
	at      link
	port    *port // nil while the interface is not there
	groups  groups
	own     []netip.Addr
	asks    []netip.Addr // the addresses wished for
	trouble string
	kernel  []string // what settle could not do
	readers sync.WaitGroup
}

func newSegment(s *Speaker, name string) *segment {
	g := &segment{
		s: s, name: name, wake: make(chan struct{}, 1), done: make(chan struct{}), start: time.Now(), machine: owner.New(),
	}
	g.wg.Go(g.loop)
	return g
}

func (g *segment) now() time.Duration { return time.Since(g.start) }

// loop gives the machine its turns.
func (g *segment) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		g.mu.Lock()
		due, some := g.machine.Due()
		g.mu.Unlock()
		wait := time.Hour
		if some {
			wait = max(0, due-g.now())
		}
		timer.Reset(wait)
		select {
		case <-g.done:
			return
		case <-g.wake:
		case <-timer.C:
			g.step(func(now time.Duration) { g.machine.Turn(now) })
		}
	}
}

// step does something with the machine, and then what the machine wants.
func (g *segment) step(f func(now time.Duration)) {
	g.mu.Lock()
	was, had := g.machine.Due()
	f(g.now())
	g.act()
	g.tell()
	due, some := g.machine.Due()
	g.mu.Unlock()
	if some && (!had || due < was) {
		select {
		case g.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// act sends what the machine wants sent.
func (g *segment) act() {
	for _, a := range g.machine.Actions() {
		if g.port == nil {
			continue
		}
		mac := g.port.mac
		var err error
		switch a.Do {
		case owner.Announce:
			err = g.port.send(a.Address, neighbor.AnnounceRequest(mac, mac, a.Address))
			if a.Address.Is4() && err == nil {
				err = g.port.send(a.Address, neighbor.AnnounceReply(mac, mac, a.Address))
			}
		case owner.Answer:
			err = g.port.send(a.Address, neighbor.Answer(mac, mac, a.Address, a.To, a.Asker))
		case owner.Probe:
			err = g.port.send(a.Address, neighbor.Probe(mac, a.Address))
		case owner.Ask:
			err = g.port.send(a.Address, g.question(mac, a.Address))
		}
		if err != nil {
			g.s.failed(g, err)
		}
	}
}

// question asks in the name of an own address of the same family. Without one a
// probe does as well: whoever holds an address answers that too.
func (g *segment) question(mac neighbor.MAC, target netip.Addr) []byte {
	from := netip.Addr{}
	for _, a := range g.own {
		if a.Is4() == target.Is4() {
			from = a
			break
		}
	}
	if !from.IsValid() && !target.Is4() {
		from = g.at.local
	}
	if !from.IsValid() {
		return neighbor.Probe(mac, target)
	}
	return neighbor.Question(mac, from, neighbor.MAC{}, target)
}

// tell reports what has changed, what belongs together as one.
func (g *segment) tell() {
	var moves []speaker.Move
	for _, e := range g.machine.Events() {
		m := speaker.Move{Kind: kinds[e.Kind], Switch: g.sw, Interface: g.at.name, Why: e.Why}
		if m.Interface == "" {
			m.Interface = g.name
		}
		if !e.MAC.IsZero() {
			m.MAC = text(e.MAC)
		}
		if n := len(moves) - 1; n >= 0 && moves[n].Kind == m.Kind && moves[n].MAC == m.MAC && moves[n].Why == m.Why {
			moves[n].Addresses = append(moves[n].Addresses, e.Address)
			continue
		}
		m.Addresses = []netip.Addr{e.Address}
		moves = append(moves, m)
	}
	for _, m := range moves {
		g.s.moved(m)
	}
}

var kinds = map[owner.Kind]speaker.MoveKind{
	owner.Taken: speaker.MoveTaken, owner.Given: speaker.MoveGiven, owner.Conflict: speaker.MoveConflict, owner.Cleared: speaker.MoveCleared,
}

func text(m neighbor.MAC) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// want hands the machine its wishes.
func (g *segment) want(sg projections.Segment, claims []speaker.Claim) {
	wishes := make([]owner.Wish, len(claims))
	addresses := make([]netip.Addr, len(claims))
	for i, c := range claims {
		addresses[i] = c.Address
		wishes[i] = owner.Wish{
			Address: c.Address, Mode: modes[c.Mode], Firm: c.Firm, Preferred: c.Preferred, Quick: c.Quick, Known: c.Known,
		}
	}
	g.step(func(now time.Duration) {
		g.own, g.asks = sg.Own, addresses
		g.machine.Want(now, wishes, sg.Others)
		g.join()
	})
}

var modes = map[projections.ClaimMode]owner.Mode{
	projections.ClaimOwn: owner.Own, projections.ClaimTake: owner.Take, projections.ClaimSpare: owner.Spare,
}

// join joins the groups of the wished addresses, after the announcements are out.
func (g *segment) join() {
	if g.port == nil {
		return
	}
	if err := g.groups.want(g.asks); err != nil {
		g.trouble = fmt.Sprintf("%s: %v; switches that listen to MLD may hold questions for IPv6 addresses back", g.name, err)
	}
}

// look brings the sockets in line with the interface as it is now.
func (g *segment) look() {
	at, err := findLink(g.name)
	trouble, kernel := "", []string(nil)
	switch {
	case err != nil:
		trouble, at = err.Error(), link{}
	case !at.up:
		trouble = fmt.Sprintf("interface %s is down", at.name)
	}
	if at.name != "" {
		kernel = settle(at.name)
	}
	g.step(func(now time.Duration) {
		g.trouble, g.kernel = trouble, kernel
		was := g.at
		g.at = at
		if g.port != nil && g.port.index == at.index && g.port.mac == at.mac && was.up == at.up {
			g.join()
			return
		}
		if g.port != nil && (g.port.index != at.index || !at.up) {
			g.shut()
		}
		if !at.up || at.index == 0 {
			if was.up {
				g.machine.Link(now, false)
			}
			return
		}
		g.open(now)
	})
}

// open opens the interface, or notes its new MAC.
func (g *segment) open(now time.Duration) {
	if g.port == nil {
		p, err := openPort(g.at.index, g.at.mac)
		if err != nil {
			g.trouble, g.at.up = fmt.Sprintf("%s: %v", g.name, err), false
			return
		}
		g.port, g.groups.index = p, p.index
		for _, sock := range []*packet{p.arp, p.ndp} {
			g.readers.Go(func() { g.read(p, sock) })
		}
	}
	g.port.mac = g.at.mac
	g.machine.Link(now, true)
	g.join()
}

func (g *segment) shut() {
	g.port.close()
	g.groups.close()
	g.port = nil
}

// read hears what others say, until the socket is closed.
func (g *segment) read(p *port, sock *packet) {
	buf := make([]byte, maxFrame)
	for {
		n, err := sock.file.Read(buf)
		if err != nil {
			if gone(err) {
				return
			}
			continue // ENETDOWN: told once, and the socket goes on
		}
		m, ok := neighbor.Parse(buf[:n])
		if !ok {
			continue
		}
		g.step(func(now time.Duration) {
			if g.port == p && m.Source != p.mac {
				g.machine.Hear(now, m)
			}
		})
	}
}

// close gives the interface up; nothing more is answered.
func (g *segment) close() {
	close(g.done)
	g.wg.Wait()
	g.mu.Lock()
	if g.port != nil {
		g.shut()
	}
	g.mu.Unlock()
	g.readers.Wait()
}
