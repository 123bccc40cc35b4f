package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv is set in the process that runs inside the user namespace; its
// value is the lab's directory.
const insideEnv = "DYAD_LAB_INSIDE"

// Rootless tells whether this process runs inside a user namespace that
// [Enter] made or joined.
func Rootless() bool { return InsideDir() != "" }

// InsideDir is the lab's directory if this process is [Rootless], else empty.
func InsideDir() string { return os.Getenv(insideEnv) }

// Enter makes sure that this process may build a lab. Root may: nothing
// happens. Anybody else is run again, with the same arguments, as the root of a
// new user, mount and network namespace, where /run is a fresh tmpfs except for
// dir; Enter then returns the exit code of that process and true, and the
// caller exits with it.
func Enter(dir string) (code int, done bool, err error) {
	if Rootless() || os.Geteuid() == 0 {
		return 0, false, nil
	}
	if err := usernsAllowed(); err != nil {
		return 0, false, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, false, fmt.Errorf("make the lab's directory: %w", err)
	}
	cmd := again(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		GidMappingsEnableSetgroups: false,
	}
	code, err = run(cmd)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("this machine does not let you make a user namespace (%w)\n  try: sudo %s, or allow it: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
			err, strings.Join(os.Args, " "))
	}
	return code, true, err
}

// Join runs this command again inside the namespaces of a process of a rootless
// lab, as [Enter] does. A rootless process is not able to join a user namespace
// while it has several threads, so nsenter and unshare (util-linux) do it.
func Join(dir string, inside Process) (code int, done bool, err error) {
	if Rootless() || os.Geteuid() == 0 {
		return 0, false, nil
	}
	if !inside.Alive() {
		return 0, false, fmt.Errorf("%w: the lab's process %d; it was stopped or the machine was restarted\n  try: dyad lab down", ErrNoProcess, inside.PID)
	}
	tool, err := exec.LookPath("nsenter")
	if err != nil {
		return 0, false, fmt.Errorf("nsenter is needed to reach a lab that runs without root: %w\n  try: sudo apt-get install -y util-linux", err)
	}
	cmd := again(dir)
	cmd.Args = append([]string{
		tool, "--user", "--mount", "--preserve-credentials", "--target", strconv.Itoa(inside.PID), "--",
		// In a network namespace of its own: in that of a node it would be
		// among what lab down ends.
		"unshare", "--net", "--", cmd.Path,
	}, cmd.Args[1:]...)
	cmd.Path = tool
	cmd.Env = append(cmd.Env, joinedEnv+"=1")
	code, err = run(cmd)
	return code, true, err
}

// joinedEnv tells a process that the namespaces are furnished already.
const joinedEnv = "DYAD_LAB_JOINED"

func again(dir string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"="+dir)
	return cmd
}

func run(cmd *exec.Cmd) (int, error) {
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil // it has said itself what was wrong
	}
	return 0, err
}

// Furnish prepares the namespaces that [Enter] made: a /run of our own, with
// the lab's directory in its old place. It does nothing anywhere else.
func Furnish() error {
	dir := os.Getenv(insideEnv)
	if dir == "" || os.Getenv(joinedEnv) != "" {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	keep, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the lab's directory %s: %w", dir, err)
	}
	defer func() { _ = unix.Close(keep) }()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount a /run of our own: %w", err)
	}
	if _, err := os.Stat(dir); err == nil {
		return nil // not below /run
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s in a /run of our own: %w", dir, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", keep), dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep %s: %w", dir, err)
	}
	return nil
}

// usernsAllowed says how to allow user namespaces where they are not.
func usernsAllowed() error {
	for _, k := range []struct{ key, closed, fix string }{
		{"kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		b, err := os.ReadFile(filepath.Join("/proc/sys", k.key))
		if err == nil && strings.TrimSpace(string(b)) == k.closed {
			return fmt.Errorf("a lab needs root or a user namespace, and this machine allows you neither (sysctl %s is %s)\n  try: %s, or run the command with sudo",
				strings.ReplaceAll(k.key, "/", "."), k.closed, k.fix)
		}
	}
	return nil
}
