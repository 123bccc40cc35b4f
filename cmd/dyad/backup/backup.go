// Package backup is "dyad backup" and "dyad restore".
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"dyad/cluster/api"
	"dyad/cluster/config"
	"dyad/cluster/node"
	format "dyad/cluster/node/backup"
	"dyad/cmd/dyad/cli"
)

// maxKeyFile bounds a file with a passphrase or keys, in bytes.
const maxKeyFile = 64 << 10

// Commands returns backup and restore.
func Commands(env *cli.Env) []*cobra.Command {
	return []*cobra.Command{backup(env), restore(env)}
}

type flags struct {
	config, passphrase string
	recipients         []string
	noSecrets, force   bool
}

func backup(env *cli.Env) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the whole log, and this node's identity, to a file",
		Long: `backup writes every event of the log as this node has it, the state of the node and
its keys to one file, or to standard output for -. It reads only, so it works while
the log can't be written, and says how old what it wrote is.

The file is encrypted with age, by a passphrase or to recipients (age1…); both can
be opened by the age tool too. Without either, --without-secrets leaves the keys
out of a plain file. A file that exists is not written over.`,
		Example: `  dyad backup --passphrase-file ./pass /backup/dyad-node-a.age
  dyad backup --recipient age1… - | ssh vault 'cat > dyad.age'
  dyad backup --without-secrets ./dyad.backup`,
		Args: cli.Args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.write(cmd.Context(), env, args[0]) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", config.DefaultPath, "configuration file, for the data directory")
	fs.StringVar(&f.passphrase, "passphrase-file", "", "encrypt with the passphrase in `FILE`")
	fs.StringArrayVar(&f.recipients, "recipient", nil, "encrypt to `KEY`, an age recipient; can be repeated")
	fs.BoolVar(&f.noSecrets, "without-secrets", false, "leave the node's keys out")
	fs.BoolVar(&f.force, "force", false, "write over a file that exists")
	cmd.AddCommand(inspect(env))
	return cmd
}

// locks are the recipients that the flags name.
func (f *flags) locks() ([]age.Recipient, error) {
	if f.passphrase != "" && len(f.recipients) > 0 {
		return nil, cli.Usage("backup", "--passphrase-file and --recipient exclude each other", "choose one")
	}
	if f.passphrase != "" {
		pass, err := passphrase(f.passphrase)
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(pass)
		if err != nil {
			return nil, cli.Usage("--passphrase-file", err.Error(), "")
		}
		return []age.Recipient{r}, nil
	}
	var out []age.Recipient
	for _, s := range f.recipients {
		r, err := age.ParseX25519Recipient(s)
		if err != nil {
			return nil, cli.Usage("--recipient "+s, err.Error(), "give a public key that begins with age1")
		}
		out = append(out, r)
	}
	if len(out) == 0 && !f.noSecrets {
		return nil, cli.Usage("backup", "it holds the node's keys, and would not be encrypted",
			"dyad backup --passphrase-file FILE …, --recipient age1…, or --without-secrets")
	}
	return out, nil
}

func passphrase(file string) (string, error) {
	b, err := readBounded(file)
	if err != nil {
		return "", cli.Usage("--passphrase-file", err.Error(), "put the passphrase into a file that only you can read")
	}
	pass, _, _ := strings.Cut(string(b), "\n")
	if pass = strings.TrimRight(pass, "\r"); pass == "" {
		return "", cli.Usage("--passphrase-file", file+" begins with an empty line", "put the passphrase into its first line")
	}
	return pass, nil
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxKeyFile)
	}
	return b, err
}

func (f *flags) write(ctx context.Context, env *cli.Env, file string) error {
	locks, err := f.locks()
	if err != nil {
		return err
	}
	c, err := config.Load(f.config, env.Getenv)
	if err != nil && f.config != config.DefaultPath {
		return cli.Usage("backup", err.Error(), "") // of the default one only dataDir is needed
	}
	var m format.Manifest
	bar := newBar(env, "backed up")
	write := func(w io.Writer) error {
		m, err = node.Backup(ctx, env.Client(), w, node.BackupOptions{
			DataDir: c.DataDir, Release: cli.Version, Now: env.Now(), Recipients: locks, NoSecrets: f.noSecrets, Progress: bar.at,
			Note: func(text string) { env.Note("%s", text) },
		})
		return err
	}
	if file == "-" {
		err = write(env.Out)
	} else {
		err = writeFile(file, f.force, write)
	}
	if err != nil {
		return failed("backup "+file, err)
	}
	if !m.Secrets {
		env.Note("the node's keys are not in it: a restored node needs no old key, but identities issued before are lost")
	}
	if !slices.Contains([]string{"SOLO", "PAIR", "EXTERNAL"}, m.Mode) {
		env.Note("this node is %s: the other node may have newer events", m.Mode)
	}
	env.Note("%d events, up to %d of %s (%s)", m.Events, m.Head.Seq, m.Newest.UTC().Format("2006-01-02T15:04:05Z"), env.Now().Sub(m.Newest).Round(1e9).String()+" old")
	if file == "-" {
		return nil
	}
	return env.Show(m, file, fields(m, f.recipients != nil || f.passphrase != ""))
}

// failed keeps what says itself what to do.
func failed(what string, err error) error {
	var e *api.Error
	var usage *cli.UsageError
	if errors.As(err, &e) || errors.As(err, &usage) || strings.Contains(err.Error(), "\n  try: ") {
		return err
	}
	fix := "free some space there, and see dyad status"
	if errors.Is(err, fs.ErrExist) {
		fix = "choose another name, or --force"
	}
	return cli.Exit(cli.ExitFailed, what, err.Error(), fix)
}

// writeFile writes beside, syncs and renames: after a crash the file is whole or
// not there. An existing file is kept unless force.
func writeFile(file string, force bool, write func(io.Writer) error) (err error) {
	if _, serr := os.Lstat(file); serr == nil && !force {
		return fmt.Errorf("%s: %w", file, fs.ErrExist)
	}
	t, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = t.Close() // it goes
			_ = os.Remove(t.Name())
		}
	}()
	if err = write(t); err != nil {
		return err
	}
	if err = errors.Join(t.Sync(), t.Close()); err != nil {
		return err
	}
	if force {
		err = os.Rename(t.Name(), file)
	} else if err = os.Link(t.Name(), file); err == nil { // fails if somebody was first
		err = os.Remove(t.Name())
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func fields(m format.Manifest, encrypted bool) []cli.Field {
	return []cli.Field{
		{Name: "Cluster", Value: m.Cluster},
		{Name: "Node", Value: m.Node + ", " + m.Mode},
		{Name: "Taken", Value: m.Time.Format("2006-01-02T15:04:05Z07:00")},
		{Name: "Events", Value: fmt.Sprintf("%d, up to %d", m.Events, m.Head.Seq)},
		{Name: "Newest event", Value: m.Newest.Format("2006-01-02T15:04:05Z07:00")},
		{Name: "Head", Value: m.Head.Hash},
		{Name: "Epoch", Value: fmt.Sprint(m.Epoch)},
		{Name: "Release", Value: m.Release},
		{Name: "Encrypted", Value: cli.YesNo(encrypted)},
		{Name: "Secrets", Value: cli.YesNo(m.Secrets)},
		{Name: "Parts", Value: fmt.Sprint(len(m.Parts))},
	}
}
