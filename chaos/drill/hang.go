package drill

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dyad/chaos"
	"dyad/chaos/netlab"
)

// hit lists the processes that a fault stops: of the agent and what it started,
// those whose part it names. Errors: there is none.
func hit(f chaos.Fault, agent netlab.Process) (out []netlab.Process, err error) {
	for _, p := range agent.Tree() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if err != nil {
			continue // it has just ended
		}
		args := strings.Split(string(b), "\x00")
		pulse := len(args) > 1 && args[1] == "pulse"
		if f == chaos.FaultNodeHang || f == chaos.FaultPulseHang && pulse || f == chaos.FaultAgentHang && p == agent {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("nothing runs that %s could stop", f)
	}
	return out, nil
}

// freeze stops processes (SIGSTOP).
func freeze(list []netlab.Process) error {
	var errs []error
	for _, p := range list {
		if err := p.Signal(unix.SIGSTOP); err != nil {
			errs = append(errs, fmt.Errorf("stop process %d: %w", p.PID, err))
		}
	}
	return errors.Join(errs...)
}
