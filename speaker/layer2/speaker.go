package layer2

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"dyad/projections"
	"dyad/speaker"
)

// lookEvery is how often interfaces and settings are looked at without an event:
// somebody may change a setting at any time. lookAgain is how soon after netlink
// failed.
const (
	lookEvery = 2 * time.Second
	lookAgain = time.Second
)

// ErrClosed is what Set returns after Close.
var ErrClosed = errors.New("the layer-2 speaker is closed")

// Speaker answers for addresses on any number of interfaces.
type Speaker struct {
	log  *slog.Logger
	done chan struct{}
	news chan struct{} // room for one: an interface has changed
	wg   sync.WaitGroup

	op sync.Mutex // held by whatever changes segments; taken before mu
	mu sync.Mutex
	// segments by the interface's name.
	segments map[string]*segment
	notify   func(speaker.Move)
	count    speaker.Change
	closed   bool
	sendErr  map[string]time.Time // by interface, when a failure was last logged
	watching bool
}

var _ speaker.Layer2 = (*Speaker)(nil)

// New makes a speaker; log defaults to slog.Default. It opens nothing before the
// first Set.
func New(log *slog.Logger) *Speaker {
	if log == nil {
		log = slog.Default()
	}
	return &Speaker{
		log: log, done: make(chan struct{}), news: make(chan struct{}, 1),
		segments: map[string]*segment{}, sendErr: map[string]time.Time{},
	}
}

// NotifyMoves implements [speaker.Layer2].
func (s *Speaker) NotifyMoves(f func(speaker.Move)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify = f
}

// Notify implements [speaker.Speaker]; there are no sessions.
func (s *Speaker) Notify(func(speaker.Session)) {}

// Sessions implements [speaker.Speaker].
func (s *Speaker) Sessions() []speaker.Session { return nil }

// Set implements [speaker.Speaker]: it makes the claims true and returns when the
// first announcements are sent. An interface that is not there is no error; it is
// told by Trouble, and used when it comes.
func (s *Speaker) Set(ctx context.Context, w speaker.Wish) (speaker.Change, error) {
	if err := ctx.Err(); err != nil || w.Claims == nil {
		return speaker.Change{}, err
	}
	s.op.Lock()
	defer s.op.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return speaker.Change{}, ErrClosed
	}
	s.count = speaker.Change{}
	s.mu.Unlock()

	s.quiet(w.Segments)
	claims := map[string][]speaker.Claim{}
	for _, c := range w.Claims {
		claims[c.Interface] = append(claims[c.Interface], c)
	}
	// What is given up goes last: the other node, or BGP, has it by then.
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		s.want(name, claims[name], w.Segments)
	}
	for _, name := range s.names() {
		if len(claims[name]) > 0 {
			continue
		}
		g := s.segments[name]
		g.want(projections.Segment{}, nil)
		g.close()
		s.mu.Lock()
		delete(s.segments, name)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, nil
}

// quiet keeps the kernel from answering on a segment before there is anything to
// answer for: a new service's address may be on the host sooner than its claim.
func (s *Speaker) quiet(segments []projections.Segment) {
	for _, sg := range segments {
		if at, err := findLink(sg.Interface); err == nil && s.segments[sg.Interface] == nil {
			_ = settle(at.name) // told by Trouble as soon as something is claimed there
		}
	}
}

// want hands a segment its claims, and opens it if it is new.
func (s *Speaker) want(name string, claims []speaker.Claim, segments []projections.Segment) {
	sg := projections.Segment{Interface: name}
	for _, x := range segments {
		if x.Interface == name {
			sg.Own, sg.Others = append(sg.Own, x.Own...), append(sg.Others, x.Others...)
		}
	}
	g := s.segments[name]
	fresh := g == nil
	if fresh {
		g = newSegment(s, name)
		g.sw = claims[0].Switch
		s.mu.Lock()
		s.segments[name] = g
		if !s.watching {
			s.watching = true
			s.wg.Go(s.watch)
			s.wg.Go(s.keep)
		}
		s.mu.Unlock()
	}
	g.want(sg, claims)
	if fresh {
		g.look()
	}
}

func (s *Speaker) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.segments))
}

// watch hears of interfaces that come and go.
func (s *Speaker) watch() {
	for {
		err := watchLinks(s.done, func() {
			select {
			case s.news <- struct{}{}:
			default: // keep looks at all of them anyway
			}
		})
		if err == nil {
			return
		}
		s.log.Warn("interfaces are looked at less often", "event", "layer2.links", "reason", err, "every", lookEvery)
		select {
		case <-s.done:
			return
		case <-time.After(lookAgain):
		}
	}
}

// keep looks at the interfaces, after news and every now and then.
func (s *Speaker) keep() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.news:
		case <-tick.C:
		}
		s.op.Lock()
		for _, name := range s.names() {
			s.segments[name].look()
		}
		s.op.Unlock()
	}
}

// Holdings implements [speaker.Layer2].
func (s *Speaker) Holdings() []speaker.Holding {
	var out []speaker.Holding
	for _, g := range s.all() {
		g.mu.Lock()
		for _, st := range g.machine.States() {
			h := speaker.Holding{Switch: g.sw, Interface: g.name, Address: st.Address, Held: st.Held, Why: st.Why}
			if st.Conflict {
				h.Stranger = text(st.Stranger)
			}
			out = append(out, h)
		}
		g.mu.Unlock()
	}
	slices.SortStableFunc(out, func(a, b speaker.Holding) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Address.Compare(b.Address))
	})
	return out
}

// Trouble implements [speaker.Layer2].
func (s *Speaker) Trouble() []string {
	var out []string
	for _, g := range s.all() {
		g.mu.Lock()
		if g.trouble != "" {
			out = append(out, g.trouble)
		}
		out = append(out, g.kernel...)
		g.mu.Unlock()
	}
	return out
}

func (s *Speaker) all() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Collect(maps.Values(s.segments))
	slices.SortFunc(out, func(a, b *segment) int { return cmp.Compare(a.name, b.name) })
	return out
}

// moved counts and passes on what has happened.
func (s *Speaker) moved(m speaker.Move) {
	s.mu.Lock()
	f := s.notify
	switch m.Kind {
	case speaker.MoveTaken:
		s.count.Announced += len(m.Addresses)
	case speaker.MoveGiven:
		s.count.Withdrawn += len(m.Addresses)
	}
	s.mu.Unlock()
	if f != nil {
		f(m)
	}
}

// failed logs that frames can't be sent, at most once in lookEvery.
func (s *Speaker) failed(g *segment, err error) {
	s.mu.Lock()
	last := s.sendErr[g.name]
	now := time.Now()
	quiet := now.Sub(last) < lookEvery
	if !quiet {
		s.sendErr[g.name] = now
	}
	s.mu.Unlock()
	if !quiet {
		s.log.Warn("an announcement could not be sent; it is repeated", "event", "layer2.send", "reason", err, "interface", g.name)
	}
}

// Close implements [speaker.Speaker]: nothing is answered any more.
func (s *Speaker) Close(ctx context.Context) error {
	s.op.Lock()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		close(s.done)
		for _, g := range s.all() {
			g.close()
		}
	}
	s.op.Unlock()
	end := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(end)
	}()
	select {
	case <-end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
