package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dyad/eventlog"
)

// Modes of the socket and of the directory that is made for it.
const (
	socketMode fs.FileMode = 0o660
	dirMode    fs.FileMode = 0o755
)

// probeBound is how long finding out whether a socket is alive may take.
const probeBound = time.Second

// ListenUnix makes the socket, with its directory. The file is owned by this
// process's user and group, mode 0660. A socket nobody listens on is replaced; a
// live one, and a file that is no socket, are left alone and an error.
// [ServeUnix] closes the listener, which removes the file.
func ListenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, socketError("socket-path", path, err.Error(), "choose another path with socket: in the configuration")
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// The file is born with this mode: between bind and chmod it would
		// be open to whoever the umask leaves it open to.
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(socketMode)) }); cerr != nil {
			return cerr
		}
		return err
	}}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, socketError("socket-path", path, err.Error(), "choose another path with socket: in the configuration")
	}
	// The umask took bits away from the mode at birth.
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(socketError("socket-path", path, err.Error(), ""), ln.Close())
	}
	return ln, nil
}

func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return socketError("socket-path", path, err.Error(), "choose another path with socket: in the configuration")
	case info.Mode().Type() != fs.ModeSocket:
		return socketError("socket-path", path, "there is a file that is not a socket", "move it away, or choose another path with socket: in the configuration")
	}
	c, err := net.DialTimeout("unix", path, probeBound)
	if err == nil {
		_ = c.Close() // nothing was said on it
		return socketError("socket-live", path, "another agent listens on it", "systemctl status dyad; stop that agent first")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return socketError("socket-live", path, "it can't be told whether another agent listens on it: "+err.Error(), "systemctl status dyad, then remove the file")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return socketError("socket-path", path, err.Error(), "remove the file")
	}
	return nil
}

func socketError(code, path, why, fix string) *Error {
	return &Error{Class: ClassFailed, Code: code, What: "socket " + path, Why: why, Fix: fix}
}

type peerKey struct{}

// peer is the process at the other end of a unix connection.
type peer struct {
	// caller looks the user up once for each connection, when it is first asked:
	// a slow user database must not hold up the accepting of others.
	caller func() (Caller, error)
}

// ServeUnix serves h to processes on this node until ctx ends, and waits for
// their requests to end, at most [StopBound] and a little. The kernel says who they are (SO_PEERCRED):
// the actor is the user's name, or uid:N where it has none, with Auth unix, and
// access gives it its role. It owns ln, a listener from [ListenUnix]. An orderly
// stop is nil.
func ServeUnix(ctx context.Context, ln net.Listener, access Access, h http.Handler, log *slog.Logger) error {
	return front{
		name: "unix",
		conn: func(ctx context.Context, c net.Conn) context.Context {
			cred, err := peerCred(c)
			return context.WithValue(ctx, peerKey{}, peer{sync.OnceValues(func() (Caller, error) {
				if err != nil {
					return Caller{}, err
				}
				return access.caller(cred), nil
			})})
		},
		identify: func(r *http.Request) (Caller, error) {
			p, ok := r.Context().Value(peerKey{}).(peer)
			if !ok {
				return Caller{}, denied("no-credentials", "the connection carries no credentials", "connect to the unix socket")
			}
			c, err := p.caller()
			if err != nil {
				return Caller{}, denied("no-credentials", err.Error(), "connect to the unix socket")
			}
			return c, nil
		},
	}.run(ctx, ln, h, log)
}

func peerCred(c net.Conn) (*unix.Ucred, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("a %T has no peer credentials", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	if optErr != nil {
		return nil, fmt.Errorf("peer credentials: %w", optErr)
	}
	return cred, nil
}

// caller is who a process is.
func (a Access) caller(cred *unix.Ucred) Caller {
	id := strconv.FormatUint(uint64(cred.Uid), 10)
	c := Caller{Actor: eventlog.Actor{Name: "uid:" + id, Auth: AuthUnix}}
	gids := []string{strconv.FormatUint(uint64(cred.Gid), 10)}
	if u, err := user.LookupId(id); err == nil && u.Username != "" {
		c.Actor.Name = u.Username
		if more, err := u.GroupIds(); err == nil {
			gids = append(gids, more...)
		}
	}
	if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() {
		c.Role = RoleAdmin
		return c
	}
	var groups []string
	for _, gid := range gids {
		if g, err := user.LookupGroupId(gid); err == nil {
			groups = append(groups, g.Name)
		}
	}
	c.Role = a.role(c.Actor.Name, groups)
	return c
}
