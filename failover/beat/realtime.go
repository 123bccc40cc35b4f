package beat

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// priority among real-time threads (1–99): above ordinary ones, below the
	// kernel's own watchdogs. runtimePriority is that of Go's own threads.
	priority        = 50
	runtimePriority = 40
	// memoryLimit is when garbage is collected after all, in bytes: the loop makes
	// none, but reports do.
	memoryLimit = 64 << 20
	schedFIFO   = 1
	// slots of Go's scheduler: one is the loop's for good, the other is for what it
	// has done in the background.
	slots = 2
	// timerSlack of this thread in nanoseconds; by default the kernel may wake it
	// 50 µs late.
	timerSlack = 1
)

// everyThread gives all threads of the process a real-time priority, the calling
// one the highest; those to come inherit one. The loop's own would not be enough:
// on its way out of a system call it may need a lock that another thread of Go's
// runtime holds, and that one would wait for a busy machine.
func everyThread() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	set := func(tid, priority int) error {
		return unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedFIFO, Priority: uint32(priority)}, 0)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := set(tid, runtimePriority); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return set(0, priority)
}

// realtime makes the calling goroutine's thread as punctual as the host allows,
// for good. It returns what could not be had, and what to do about it.
func realtime() string {
	runtime.LockOSThread()
	runtime.GOMAXPROCS(slots)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	var missing []string
	if err := everyThread(); err != nil {
		missing = append(missing, fmt.Sprintf("real-time priority (%v; grant CAP_SYS_NICE or LimitRTPRIO=%d)", err, priority))
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		missing = append(missing, fmt.Sprintf("locked memory (%v; grant CAP_IPC_LOCK or LimitMEMLOCK=infinity)", err))
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0)
	_ = noSignals() // without it the loop is only interrupted more often
	return strings.Join(missing, ", ")
}
