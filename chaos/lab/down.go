package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dyad/chaos/netlab"
)

// downLimit bounds taking a lab down.
const downLimit = time.Minute

// Down takes the lab in dir down, also one that crashed or whose state is
// unreadable: then everything of its prefix goes. It tells whether there was
// anything to take down.
func Down(ctx context.Context, dir string, say func(format string, args ...any)) (bool, error) {
	if say == nil {
		say = func(string, ...any) {}
	}
	ctx, cancel := context.WithTimeout(ctx, downLimit)
	defer cancel()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	left, err := netlab.Leftovers(PrefixFor(dir))
	if err != nil {
		return false, err
	}
	_, serr := os.Stat(filepath.Join(dir, stateFile))
	if len(left) == 0 && serr != nil {
		return false, nil
	}
	l, err := Open(dir)
	if err != nil {
		say("the lab's state is of no use (%v); removing everything named %s-*", err, PrefixFor(dir))
		l = &Lab{State{Version: stateVersion, Dir: dir, Prefix: PrefixFor(dir)}}
	}
	unlock, err := WaitLock(ctx, filepath.Join(dir, lockFile))
	if err != nil && !os.IsNotExist(errors.Unwrap(err)) {
		return true, fmt.Errorf("another lab command works on %s: %w", dir, err)
	}
	if unlock != nil {
		defer unlock()
	}
	return true, l.down(ctx, say)
}

func (l *Lab) down(ctx context.Context, say func(string, ...any)) error {
	var errs []error
	say("nodes: killing agents, supervisors and echo responders")
	for _, name := range NodeNames() {
		n, _ := l.Node(name)
		for _, f := range []string{superviseFile, agentFile, echoFile} {
			if p, err := netlab.LoadProcess(filepath.Join(n.Dir, f)); err == nil {
				errs = append(errs, p.KillTree())
			}
		}
	}
	if p, err := l.Witness(); err == nil {
		errs = append(errs, p.KillTree())
	}
	kinds := []string{l.Router}
	if l.Router == "" { // unknown: whichever it was
		kinds = []string{netlab.KindFRR, netlab.KindBIRD, netlab.KindGoBGP}
	}
	for _, k := range kinds {
		say("router: stopping %s", k)
		one := *l
		one.Router = k
		if r, err := one.RouterControl(); err == nil {
			errs = append(errs, r.Stop(ctx))
		}
	}
	say("namespaces: removing %s-*", l.Prefix)
	errs = append(errs, netlab.Teardown(l.Prefix), netlab.RemoveRouterDirs(l.Prefix))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the lab is not all gone: %w\n  try: dyad lab down --dir %s", err, l.Dir)
	}
	return l.removeDir()
}

// removeDir removes what a lab wrote in its directory, and the directory if
// nothing else is in it. A name we do not know is not ours to remove.
func (l *Lab) removeDir() error {
	var errs []error
	for _, name := range []string{netlab.NodeA, netlab.NodeB, netlab.Router, stateFile, stateFile + ".new", drillLock, lockFile} {
		errs = append(errs, os.RemoveAll(filepath.Join(l.Dir, name)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the lab's files: %w", err)
	}
	err := os.Remove(l.Dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) || errors.Is(err, os.ErrNotExist) {
		return nil // somebody else's files, a mount of a rootless lab, or gone
	}
	return err
}

// Forget removes the files of a rootless lab whose processes are gone: its
// namespaces went with them.
func Forget(dir string) error {
	l, err := Open(dir)
	if err != nil {
		return err
	}
	if !l.Rootless {
		return fmt.Errorf("the lab in %s is not a rootless one\n  try: dyad lab down", dir)
	}
	return l.removeDir()
}
