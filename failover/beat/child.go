package beat

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ChildMain is the whole of the hidden command "dyad pulse". It speaks with the
// agent over the two files and returns when the agent says goodbye, nil, or is
// gone, which is no error either. It must be called from a goroutine whose
// thread it may keep. Errors: files that can't be polled, an agent of another
// release.
func ChildMain(in, out *os.File) error {
	inFD, outFD := int(in.Fd()), int(out.Fd())
	for _, fd := range []int{inFD, outFD} {
		if err := unix.SetNonblock(fd, true); err != nil {
			return fmt.Errorf("pulse: this command is started by dyad agent: %w", err)
		}
	}
	l := newLoop(inFD, outFD)
	var err error
	if l.links, err = openLinks(); err != nil {
		fmt.Fprintln(os.Stderr, err) // for the agent's log; a silence tells as well, later
	}
	l.rebuildPolls()
	l.report(Report{Kind: reportReady, Why: realtime()})
	l.out.flush()
	err = l.run()
	l.links.close()
	l.closePaths()
	l.closeTargets()
	l.work.Wait()
	if errors.Is(err, errAgentGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pulse: %w", err)
	}
	return nil
}
