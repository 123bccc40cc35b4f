package labtest

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// warpWord makes this program bend what the kernel tells others: warpWord FILE
// COMMAND… runs the command, and in all that comes of it every fsync takes longer
// and the wall clock is off, by what stands in the file at that moment.
const warpWord = "warp"

// warp is what stands in the file.
type warp struct{ fsync, clock time.Duration }

func (w warp) String() string { return w.fsync.String() + " " + w.clock.String() }

func readWarp(path string) (w warp, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return warp{}, err
	}
	fsync, clock, _ := strings.Cut(string(b), " ")
	if w.fsync, err = time.ParseDuration(fsync); err == nil {
		w.clock, err = time.ParseDuration(clock)
	}
	return w, err
}

// onWarped starts a node whose kernel is bent; the returned function bends it
// otherwise.
func (s *stage) onWarped(node string, w warp) (bend func(warp)) {
	s.t.Helper()
	self, err := os.Executable()
	s.ok(err)
	file := filepath.Join(s.Dir, node, "warp")
	bend = func(w warp) {
		s.t.Helper()
		s.ok(os.WriteFile(file+".new", []byte(w.String()), 0o600))
		s.ok(os.Rename(file+".new", file))
	}
	bend(w)
	script := filepath.Join(s.Dir, node, "warped-dyad")
	s.ok(os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec %q %s %q %q \"$@\"\n", self, warpWord, file, s.Binary), 0o700))
	s.ok(s.PowerOn(node, script))
	return bend
}

// runWarped is the program: it catches the calls of its child, and of the child's
// children, in the kernel (seccomp_unotify(2)).
func runWarped(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("want FILE COMMAND…, got %q", args)
	}
	started := make(chan error)
	var listener int
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	go func() {
		// The filter is this thread's, and the child's, which it forks; the thread
		// ends with this function.
		runtime.LockOSThread()
		var err error
		if listener, err = catch(); err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		return err
	}
	go func() {
		fmt.Fprintln(os.Stderr, serveCalls(listener, args[0]))
		os.Exit(1) // what was caught would hang
	}()
	return cmd.Wait()
}

// catch installs the filter for this thread and what comes of it.
func catch() (listener int, err error) {
	const offNr, offArg0 = 0, 16 // in struct seccomp_data
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	filter := []unix.SockFilter{
		load(offNr),
		equal(unix.SYS_FSYNC, 6, 0),
		equal(unix.SYS_FDATASYNC, 5, 0),
		equal(unix.SYS_SCHED_GETAFFINITY, 4, 0),
		equal(unix.SYS_CLOCK_GETTIME, 0, 2),
		load(offArg0),
		equal(unix.CLOCK_REALTIME, 1, 0),
		ret(unix.SECCOMP_RET_ALLOW),
		ret(unix.SECCOMP_RET_USER_NOTIF),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	// Killable: the runtime's own signals must not break a slow call off, which
	// would begin again.
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return 0, fmt.Errorf("catch system calls: %w", errno)
	}
	return int(fd), nil
}

// call is struct seccomp_notif, answer struct seccomp_notif_resp.
type (
	call struct {
		id         uint64
		tid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	answer struct {
		id    uint64
		val   int64
		err   int32
		flags uint32
	}
)

const goOn = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE: the kernel carries the call out

// serveCalls answers what is caught until the listener fails.
func serveCalls(listener int, file string) error {
	vdso := map[string]uint64{}
	for {
		var c call
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&c)))
		switch {
		case errno == unix.EINTR || errno == unix.ENOENT: // the caller has died
			continue
		case errno != 0:
			return fmt.Errorf("wait for system calls: %w", errno)
		}
		w, err := readWarp(file)
		if err != nil {
			return err
		}
		a := answer{id: c.id, flags: goOn}
		switch c.nr {
		case unix.SYS_SCHED_GETAFFINITY:
			err = leaveVDSO(int(c.tid), vdso)
		case unix.SYS_CLOCK_GETTIME:
			if w.clock != 0 {
				a.flags, err = 0, tell(int(c.tid), c.args[1], time.Now().Add(w.clock))
			}
		default:
			if w.fsync > 0 {
				time.AfterFunc(w.fsync, func() { reply(listener, a) })
				continue
			}
		}
		if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		reply(listener, a)
	}
}

func reply(listener int, a answer) {
	// It fails if the caller has died meanwhile.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
}

// tell writes a time to where a thread wants it.
func tell(tid int, address uint64, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	return poke(tid, address, unsafe.Slice((*byte)(unsafe.Pointer(&ts)), unsafe.Sizeof(ts)))
}

// leaveVDSO makes a Go program ask the kernel for the time, which it otherwise
// reads from a page that no filter sees. It is done when the runtime starts, which
// asks for its processors after it has looked the page up.
func leaveVDSO(tid int, known map[string]uint64) error {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", tid))
	if err != nil {
		return err
	}
	if _, ok := known[exe]; !ok {
		f, err := elf.Open(exe)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		symbols, err := f.Symbols()
		if err != nil {
			return fmt.Errorf("%s was built without symbols: %w", exe, err)
		}
		known[exe] = 0 // not a Go program
		for _, s := range symbols {
			if s.Name == "runtime.vdsoClockgettimeSym" {
				known[exe] = s.Value
			}
		}
	}
	if known[exe] == 0 {
		return nil
	}
	return poke(tid, known[exe], make([]byte, 8))
}

func poke(tid int, address uint64, b []byte) error {
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	_, err := unix.ProcessVMWritev(tid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(b)}}, 0)
	return err
}
