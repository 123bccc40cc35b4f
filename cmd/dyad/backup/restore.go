package backup

import (
	"bytes"
	"errors"
	"os"
	"os/user"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"dyad/cluster/config"
	"dyad/cluster/node"
	format "dyad/cluster/node/backup"
	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
)

// keys are the flags that open a backup.
type keys struct{ passphrase, identity string }

func (k *keys) define(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.passphrase, "passphrase-file", "", "open it with the passphrase in `FILE`")
	cmd.Flags().StringVar(&k.identity, "identity", "", "open it with the age keys in `FILE`")
}

func (k *keys) identities() ([]age.Identity, error) {
	var out []age.Identity
	if k.passphrase != "" {
		pass, err := passphrase(k.passphrase)
		if err != nil {
			return nil, err
		}
		id, err := age.NewScryptIdentity(pass)
		if err != nil {
			return nil, cli.Usage("--passphrase-file", err.Error(), "")
		}
		out = append(out, id)
	}
	if k.identity != "" {
		b, err := readBounded(k.identity)
		if err != nil {
			return nil, cli.Usage("--identity", err.Error(), "give the file that age-keygen wrote")
		}
		ids, err := age.ParseIdentities(bytes.NewReader(b))
		if err != nil {
			return nil, cli.Usage("--identity", err.Error(), "give the file that age-keygen wrote")
		}
		out = append(out, ids...)
	}
	return out, nil
}

// open reads and checks a backup. The caller closes the file when it is done
// with the backup.
func (k *keys) open(env *cli.Env, file string) (*format.File, *os.File, error) {
	ids, err := k.identities()
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, cli.Usage("the backup", err.Error(), "give the path of a file that dyad backup wrote")
	}
	st, err := f.Stat()
	var b *format.File
	if err == nil {
		b, err = format.Open(f, st.Size(), ids...)
	}
	if err != nil {
		_ = f.Close() // it was only read
		fix := "take another backup; this file can't be trusted"
		switch {
		case errors.Is(err, format.ErrLocked):
			fix = "--passphrase-file FILE, or --identity FILE, with what it was encrypted with"
		case errors.Is(err, format.ErrNewer):
			fix = "install the newest dyad"
		}
		return nil, nil, cli.Exit(cli.ExitFailed, file, err.Error(), fix)
	}
	return b, f, nil
}

func inspect(env *cli.Env) *cobra.Command {
	var k keys
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Check a backup, and say what it holds",
		Long: `inspect reads all of a backup: every byte against its hashes, every event against
the one before it. It changes nothing and needs no agent. The exit code is 1 if
anything is wrong.`,
		Example: "  dyad backup inspect --passphrase-file ./pass /backup/dyad-node-a.age",
		Args:    cli.Args(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, f, err := k.open(env, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return env.Show(b.Manifest, args[0], fields(b.Manifest, b.Encrypted))
		},
	}
	k.define(cmd)
	return cmd
}

func restore(env *cli.Env) *cobra.Command {
	var k keys
	var file, from string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make this node the first of a new cluster, out of a backup",
		Long: `restore puts a backup into an empty data directory: every event with its sequence,
its hash and its bytes. The node is then the only one of a new cluster, with a new
ID, a new authority and a new epoch, which the log says; other nodes join it anew.

Use it when no node of the old cluster is left. If one is, let it go on, and join
the other one to it. A restore that was broken off is repeated by the same
command; a directory in use, or with anything in it, is refused.`,
		Example: "  dyad restore --passphrase-file ./pass /backup/dyad-node-a.age\n  dyad restore --node node-a --identity ./key.txt ./dyad.age",
		Args:    cli.Args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(file, env.Getenv)
			if err != nil {
				return cli.Usage("restore", err.Error(), "")
			}
			b, f, err := k.open(env, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			bar := newBar(env, "restored")
			s, err := node.Restore(cmd.Context(), c, b, node.RestoreOptions{
				Release: cli.Version, From: from, Now: time.Now, Actor: actor(), Progress: bar.at,
			})
			if err != nil {
				return failed("restore "+args[0], err)
			}
			warn(env, b.Manifest)
			err = env.Show(s, s.Node, []cli.Field{
				{Name: "node", Value: s.Node},
				{Name: "cluster", Value: s.Cluster},
				{Name: "before", Value: b.Manifest.Cluster},
				{Name: "mode", Value: string(s.Mode)},
				{Name: "data", Value: c.DataDir},
			})
			env.Note("next: dyad agent, or systemctl start dyad; then on the other node, with an empty data directory: dyad join %s", c.Address)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", config.DefaultPath, "configuration file")
	cmd.Flags().StringVar(&from, "node", "", "take the place of the node `NAME`, which the backup is of")
	k.define(cmd)
	return cmd
}

func actor() eventlog.Actor {
	name := "root"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return eventlog.Actor{Name: name, Auth: "unix"}
}

// warn says what a restore can't know: whether the old cluster still lives.
func warn(env *cli.Env, m format.Manifest) {
	env.Note("warning: what cluster %s recorded after event %d (%s) is not here.", m.Cluster, m.Head.Seq, m.Newest.UTC().Format(time.RFC3339))
	env.Note("warning: if a node of it still runs, it announces the same addresses. Before starting this one, stop it there: " +
		"systemctl disable --now dyad. It can't join with its old data directory: empty that, then dyad join.")
}
