package beat

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Go's scheduler costs a process like this one more than its work does. A thread
// that sleeps in a system call the ordinary way has its slot taken by the
// runtime's monitor, wakes that monitor when it returns, and so buys three more
// context switches with each of its own. The loop therefore never tells the
// scheduler that it sleeps: it keeps its slot, which nobody else needs (there is
// another one, see [realtime]), takes no lock of the runtime on its way, and calls
// the kernel directly. What it calls never blocks, except [sleep].

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// sleep waits in ppoll until one of the files is ready or d has passed. Errors:
// EINTR.
//
// Invariant: the thread is pinned from before the call until a request to make
// room for others, which the monitor has left meanwhile, has been turned down. It
// would hand this goroutine to another thread and back.
func sleep(fds []unix.PollFd, d time.Duration) error {
	ts := unix.NsecToTimespec(max(0, d).Nanoseconds())
	procPin()
	_, _, e := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	turnDown()
	procUnpin()
	if e != 0 {
		return e
	}
	return nil
}

// turnDown is a call, which is where the runtime asks a goroutine to make room; a
// pinned one goes on. It must not be inlined, nor be free of calls itself: such a
// function is not asked.
//
//go:noinline
func turnDown() {
	procPin()
	procUnpin()
}

// read is read(2) of a file that does not block.
func read(fd int, b []byte) (int, error) { return transfer(unix.SYS_READ, fd, b) }

// write is write(2) to a file that does not block.
func write(fd int, b []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, b) }

func transfer(trap uintptr, fd int, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, e)
}

func result(n uintptr, e syscall.Errno) (int, error) {
	switch e {
	case 0:
		return int(n), nil
	case unix.EAGAIN:
		return -1, errAgain
	}
	return -1, e
}

// errAgain is made once; an error made of a number each time is an allocation.
var errAgain error = unix.EAGAIN

// noSignals keeps the runtime from interrupting this thread's sleep, which it
// would a hundred times a second, to make room for others.
func noSignals() error {
	var set unix.Sigset_t
	n := uint(unix.SIGURG) - 1
	set.Val[n/64] |= 1 << (n % 64)
	return unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}
