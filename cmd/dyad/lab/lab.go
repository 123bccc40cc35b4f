// Package lab is dyad lab: a two-node cluster with a router and a client on
// this machine, to try things on and to break.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/cmd/dyad/cli"
)

// Commands are dyad lab and its verbs.
func Commands(env *cli.Env) []*cobra.Command {
	c := cli.Group(&cobra.Command{
		Use:   "lab",
		Short: "A cluster on this machine, to try and to break",
		Long: `lab makes two nodes, a router and a client out of network namespaces, with real
agents and a real BGP router. It needs root, or a user namespace.`,
		Example: "  dyad lab up\n  dyad lab status\n  dyad drill run host-silent\n  dyad lab down",
	})
	c.AddCommand(up(), down(), status(env), execute(), routerShow(), deps())
	c.AddCommand(supervise(), echo(), router(), demonstrate())
	return []*cobra.Command{c}
}

func dirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "dir", lab.DefaultDir(), "the lab's `DIR`; labs in different directories do not meet")
}

// say prints progress to stderr.
func say(cmd *cobra.Command) func(string, ...any) {
	return func(format string, args ...any) {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "lab: "+format+"\n", args...)
	}
}

// codeOf ends this command as the same command ended inside the namespaces.
func codeOf(code int, err error) error {
	if err != nil || code == 0 {
		return err
	}
	return &cli.ExitError{Code: code}
}

// entered makes sure that this process may build a lab in dir; if it is done,
// the command ran already, inside a user namespace.
func entered(cmd *cobra.Command, dir string) (done bool, err error) {
	if os.Geteuid() != 0 && !netlab.Rootless() {
		say(cmd)("not root: using a user namespace of its own")
	}
	code, done, err := netlab.Enter(dir)
	if done || err != nil {
		return true, codeOf(code, err)
	}
	return false, netlab.Furnish()
}

// Reach opens the lab in dir from where it can be worked on; if it is done, the
// command ran already, inside the lab's user namespace.
func Reach(dir string) (l *lab.Lab, done bool, err error) {
	l, err = lab.Open(dir)
	if err != nil {
		return nil, false, err
	}
	if os.Geteuid() == 0 || netlab.Rootless() {
		return l, false, nil
	}
	if !l.Rootless {
		return nil, false, fmt.Errorf("the lab in %s was made by root\n  try: sudo %s", l.Dir, strings.Join(os.Args, " "))
	}
	inside, err := l.Inside()
	if err != nil {
		return nil, false, err
	}
	code, done, err := netlab.Join(l.Dir, inside)
	return l, done, codeOf(code, err)
}

func up() *cobra.Command {
	var o lab.Options
	nodes := 2
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up, and leave it running",
		Long: `up makes the namespaces, starts the router, runs dyad init on node-a and dyad join
on node-b, and returns when both are ready. The lab stays until dyad lab down.`,
		Example: "  dyad lab up\n  dyad lab up --router gobgp",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
	}
	dirFlag(c, &o.Dir)
	c.Flags().StringVar(&o.Router, "router", "", "the router's `KIND`: frr, bird or gobgp (default: frr; gobgp without root)")
	c.Flags().IntVar(&nodes, "nodes", 2, "number of nodes; a cluster has 2")
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave a lab that does not come up as it is")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if nodes != 2 {
			return cli.Usage(fmt.Sprintf("--nodes %d", nodes), "a dyad cluster has two nodes", "leave --nodes out")
		}
		if err := checkRouter(o.Router, netlab.KindFRR, netlab.KindBIRD, netlab.KindGoBGP); err != nil {
			return err
		}
		if done, err := entered(cmd, o.Dir); done || err != nil {
			return err
		}
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		o.Say = say(cmd)
		l, err := lab.Up(cmd.Context(), o)
		if err != nil {
			return err
		}
		n, err := l.Node(netlab.NodeA)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "the lab is up: router %s at %s, AS %d; nodes AS %d; free pool %s\n\n"+
			"  export DYAD_SOCKET=%s\n"+
			"  dyad hcs Set-HcsBGPPeer -PeerAddress %s -PeerAsn %d -SelfAsn %d -SwitchName %s\n"+
			"  dyad pool add demo %s && dyad service add web --pool demo\n"+
			"  dyad drill run host-silent --lab-dir %s\n  dyad lab down --dir %s\n",
			l.Router, l.Plan.RouterPeer, l.Plan.RouterASN, l.Plan.NodeASN, l.Plan.Pool, n.Socket,
			l.Plan.RouterPeer, l.Plan.RouterASN, l.Plan.NodeASN, l.Plan.SwitchName, l.PoolPrefix(), l.Dir, l.Dir)
		return err
	}
	return c
}

func down() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "down",
		Short:   "Take a lab down, also one that crashed",
		Long:    "down kills the lab's processes and removes its namespaces, router and directory.",
		Example: "  dyad lab down",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
	}
	dirFlag(c, &dir)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		l, done, err := Reach(dir)
		switch {
		case done:
			// The inner command removed what is inside; the directory's own
			// mount went with it, so what is left is ours.
			return errors.Join(err, removeEmpty(dir))
		case errors.Is(err, netlab.ErrNoProcess) && l == nil:
			// A rootless lab whose processes are gone took its namespaces along.
			return lab.Forget(dir)
		case err != nil && (os.Geteuid() != 0 || netlab.Rootless()) && !errors.Is(err, lab.ErrNoLab):
			return err
		}
		had, err := lab.Down(cmd.Context(), dir, say(cmd))
		if err != nil {
			return err
		}
		if !had {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "no lab in %s\n", dir)
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "the lab is gone")
		return err
	}
	return c
}

// removeEmpty removes a directory if nothing is in it.
func removeEmpty(dir string) error {
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return nil
	}
	return os.Remove(dir)
}

func execute() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "exec NODE -- COMMAND",
		Short:   "Run a command inside node-a, node-b, the router or the client",
		Long:    "exec runs a command in a namespace of the lab. On a node, DYAD_SOCKET is that node's agent.",
		Example: "  dyad lab exec node-b -- dyad status\n  dyad lab exec client -- ping -c 3 10.126.77.125",
		Args:    cli.Args(2, -1), ValidArgs: []string{netlab.NodeA, netlab.NodeB, netlab.Router, netlab.Client},
	}
	c.Flags().SetInterspersed(false)
	dirFlag(c, &dir)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if args[1] == "--" {
			args = append(args[:1], args[2:]...)
		}
		if len(args) < 2 {
			return cli.Usage("dyad lab exec", "it needs a command to run", "dyad lab exec "+args[0]+" -- dyad status")
		}
		l, done, err := Reach(dir)
		if done || err != nil {
			return err
		}
		if !netlab.Exists(l.NS(args[0])) {
			return cli.Usage("dyad lab exec "+args[0], "the lab has no such part", "use one of: "+strings.Join(c.ValidArgs, ", "))
		}
		x := exec.CommandContext(cmd.Context(), args[1], args[2:]...)
		x.Stdin, x.Stdout, x.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		x.Env = append(os.Environ(), "DYAD_SOCKET="+filepath.Join(l.Dir, args[0], "dyad.sock"))
		err = netlab.Start(l.NS(args[0]), x)
		if err == nil {
			err = x.Wait()
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return codeOf(exit.ExitCode(), nil)
		}
		return err
	}
	return c
}

func routerShow() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "router-show",
		Short:   "The router's own view of its routes",
		Long:    "router-show asks the lab's router, in the router's words, and shows what its kernel forwards by.",
		Example: "  dyad lab router-show",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
	}
	dirFlag(c, &dir)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		l, done, err := Reach(dir)
		if done || err != nil {
			return err
		}
		r, err := l.RouterControl()
		if err != nil {
			return err
		}
		text, err := r.Show(cmd.Context())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "$ %s\n%s", r.ShowCommand(), text)
		return err
	}
	return c
}

func deps() *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use:     "deps",
		Short:   "Install the router a lab needs",
		Long:    "deps installs FRR or BIRD from this machine's Debian archive if it is missing, after saying so.",
		Example: "  dyad lab deps --router frr",
		Args:    cli.Args(0, 0), ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().StringVar(&kind, "router", netlab.KindFRR, "for which `KIND`: frr, bird, gobgp or all")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkRouter(kind, netlab.KindFRR, netlab.KindBIRD, netlab.KindGoBGP, "all"); err != nil {
			return err
		}
		return lab.Deps(cmd.Context(), kind, cmd.ErrOrStderr())
	}
	return c
}

// checkRouter refuses a router this release does not know, before anything is
// built; empty leaves the choice to the lab.
func checkRouter(kind string, known ...string) error {
	if kind == "" || slices.Contains(known, kind) {
		return nil
	}
	return cli.Usage("--router "+kind, "there is no such router", "--router "+strings.Join(known, ", or "))
}
