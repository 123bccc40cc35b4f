package etcdnode

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const (
	// maxConfigBytes bounds the configuration the child reads.
	maxConfigBytes = 64 << 10
	// readyLine is what the child prints when it answers.
	readyLine = "ready"
	// againLine is what it prints before it ends to be started again at once.
	againLine = "again"
	// doneLine is what it prints when it has done what it was told, and notDoneLine
	// with the reason when it could not.
	doneLine    = "done"
	notDoneLine = "not done: "
)

// ErrOrphaned: the agent that started the child is gone.
var ErrOrphaned = errors.New("the agent is gone")

// ChildMain is the whole of the hidden command "dyad store": it reads one line
// of ServeConfig in JSON from stdin, runs the member, and prints "ready" to
// standard output when it answers. Further lines are commands, see
// [Supervisor.GoAlone]. args are those after "store".
//
// It returns when the member stopped: nil after ctx or SIGTERM, ErrOrphaned as
// soon as stdin ends, because then the agent is gone. The caller must then end
// the process: in the latter case, and while clients keep watches open, the
// member is left where it is, which is as safe as being killed.
func ChildMain(ctx context.Context, args []string, stdin io.Reader) error {
	flags := flag.NewFlagSet("store", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it
	config := flags.String("config", "-", "where the configuration comes from; only - (standard input)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *config != "-" || flags.NArg() > 0 {
		return fmt.Errorf("store: this command is started by dyad agent; it takes --config - and nothing else")
	}
	in := bufio.NewReaderSize(stdin, maxConfigBytes)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("store: read the configuration: %w", err)
	}
	var c ServeConfig
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("store: read the configuration: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	stopped := make(chan error, 1)
	orders := make(chan command)
	go func() {
		ended <- serve(ctx, c, member{
			ready: func() { fmt.Println(readyLine) }, stopped: func(err error) { stopped <- err }, commands: orders, done: report,
		})
	}()
	orphaned := make(chan struct{})
	go func() {
		hearOrders(ctx, in, orders)
		close(orphaned)
	}()
	select {
	case err := <-ended:
		return err
	case err := <-stopped:
		if err != nil {
			fmt.Println(againLine)
		}
		return err
	case <-orphaned:
		return ErrOrphaned
	}
}

// hearOrders passes on what the supervisor says, until it is gone.
func hearOrders(ctx context.Context, in *bufio.Reader, orders chan<- command) {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		var c command
		if err := json.Unmarshal(line, &c); err != nil {
			report(err)
			continue
		}
		select {
		case orders <- c:
		case <-ctx.Done():
			return
		}
	}
}

// report tells what came of a command.
func report(err error) {
	if err != nil {
		fmt.Println(notDoneLine + strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Println(doneLine)
}

// childArgs is how a supervisor asks for ChildMain by default.
func childArgs() []string { return []string{"store", "--config", "-"} }

// self is the running binary.
func self() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program to start the store from: %w", err)
	}
	return exe, nil
}
