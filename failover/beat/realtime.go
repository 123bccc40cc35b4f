package beat

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// priority among real-time threads (1–99): above ordinary ones, below the
	// kernel's own watchdogs.
	priority = 50
	// memoryLimit is when garbage is collected after all, in bytes: the loop makes
	// none, but reports do.
	memoryLimit = 64 << 20
	schedFIFO   = 1
	// timerSlack of this thread in nanoseconds; by default the kernel may wake it
	// 50 µs late.
	timerSlack = 1
)

// realtime makes the calling goroutine's thread as punctual as the host allows,
// for good. It returns what could not be had, and what to do about it.
func realtime() string {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	var missing []string
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedFIFO, Priority: priority, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0); err != nil {
		missing = append(missing, fmt.Sprintf("real-time priority (%v; grant CAP_SYS_NICE or LimitRTPRIO=%d)", err, priority))
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		missing = append(missing, fmt.Sprintf("locked memory (%v; grant CAP_IPC_LOCK or LimitMEMLOCK=infinity)", err))
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0)
	return strings.Join(missing, ", ")
}
