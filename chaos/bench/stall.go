package bench

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How the host itself is watched while something is measured on it.
const (
	stallTick = time.Millisecond
	// stallLeast is the shortest stall that is kept, maxStalls how many are.
	stallLeast = 2 * time.Millisecond
	maxStalls  = 1 << 16
	// stallPriority is above that of everything dyad runs.
	stallPriority = 60
	schedFIFO     = 1
)

// stall is a time in which a processor ran nothing for us, whatever the priority:
// the host had taken it away, or its kernel did not let go of it.
type stall struct{ from, to time.Time }

// stalls watches every processor of this host with a thread of its own.
type stalls struct {
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	list []stall
}

func watchStalls() *stalls {
	s := &stalls{stop: make(chan struct{})}
	for cpu := range runtime.NumCPU() {
		s.wg.Go(func() { s.watch(cpu) })
	}
	return s
}

func (s *stalls) watch(cpu int) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set)
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedFIFO, Priority: stallPriority}, 0)
	for last := time.Now(); ; {
		select {
		case <-s.stop:
			return
		default:
		}
		ts := unix.NsecToTimespec(stallTick.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil)
		now := time.Now()
		if now.Sub(last) > stallLeast+stallTick {
			s.note(stall{last.Add(stallTick), now})
		}
		last = now
	}
}

func (s *stalls) note(x stall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) < maxStalls {
		s.list = append(s.list, x)
	}
}

func (s *stalls) end() {
	close(s.stop)
	s.wg.Wait()
}

// longest is the longest part of a stall between two instants.
func (s *stalls) longest(from, to time.Time) (d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.list {
		if x.from.Before(from) {
			x.from = from
		}
		if x.to.After(to) {
			x.to = to
		}
		d = max(d, x.to.Sub(x.from))
	}
	return d
}
