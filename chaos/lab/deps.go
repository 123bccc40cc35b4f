package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"dyad/chaos/netlab"
)

// depsLimit bounds installing packages.
const depsLimit = 10 * time.Minute

// KindPeers names what the benchmark beside other systems needs: FRR, BIRD and
// keepalived.
const KindPeers = "peers"

// Deps installs what the routers of that kind need and is not there (kind is
// frr, bird, gobgp, peers or all), through apt-get, after saying so. It changes
// nothing else on the machine.
func Deps(ctx context.Context, kind string, out io.Writer) error {
	packages := missing(kind)
	if len(packages) == 0 {
		_, _ = fmt.Fprintf(out, "lab: nothing to install for router %s\n", kind)
		return nil
	}
	if os.Geteuid() != 0 {
		_, _ = fmt.Fprintf(out, "lab: %v missing, and installing needs root; without root the lab uses the embedded router (gobgp), which needs nothing\n", packages)
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return fmt.Errorf("%v missing, and this machine has no apt-get to install it with\n  try: ROUTER=gobgp (make demo ROUTER=gobgp, dyad lab up --router gobgp), which needs nothing", packages)
	}
	ctx, cancel := context.WithTimeout(ctx, depsLimit)
	defer cancel()
	_, _ = fmt.Fprintf(out, "lab: installing %v from this machine's Debian archive (apt-get install -y --no-install-recommends)\n"+
		"lab: a package may start its own service; the lab does not use it and changes nothing of it\n", packages)
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %v: %w\n  try: ROUTER=gobgp, which needs nothing installed", args, err)
		}
	}
	if left := missing(kind); len(left) > 0 {
		return fmt.Errorf("%v was installed but is still not found\n  try: ROUTER=gobgp", left)
	}
	return nil
}

func missing(kind string) []string {
	var out []string
	if (kind == netlab.KindFRR || kind == KindPeers || kind == "all") && netlab.FRRInstalled() != nil {
		out = append(out, "frr")
	}
	if _, err := exec.LookPath("bird"); err != nil && (kind == netlab.KindBIRD || kind == KindPeers || kind == "all") {
		out = append(out, "bird2")
	}
	if _, err := exec.LookPath("keepalived"); err != nil && kind == KindPeers {
		out = append(out, "keepalived")
	}
	if _, err := exec.LookPath("bgpd"); err != nil && kind == "all" {
		out = append(out, "openbgpd") // the speaker's tests talk to it
	}
	if _, err := exec.LookPath("ip"); err != nil && kind == "all" {
		out = append(out, "iproute2") // they also make their namespaces with it
	}
	return out
}
