package etcdnode

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// maxLine bounds one line of what the child says; the rest of it is cut.
const maxLine = 4096

// child is one run of the store's process.
type child struct {
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr io.ReadCloser

	answered bool       // it said that it is ready
	again    bool       // it said that it wants to be started again
	done     chan error // what came of the last command; room for one

	words        string    // its last words: a panic's first line, or its last plain line
	panicked     bool      // words are a panic's
	complaint    string    // etcd's last error
	complainedAt time.Time // and when that was
}

// recently is how long before its death a complaint of the child counts as part
// of the reason.
const recently = time.Second

// newChild starts cmd.
func newChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, done: make(chan error, 1)}
	var errIn, errOut, errErr error
	c.stdin, errIn = cmd.StdinPipe()
	c.stdout, errOut = cmd.StdoutPipe()
	c.stderr, errErr = cmd.StderrPipe()
	if err := errors.Join(errIn, errOut, errErr); err != nil {
		return nil, err
	}
	return c, cmd.Start()
}

// listen passes on what the child says until it is gone, and returns why it
// ended. ready is called when it says that it answers.
func (c *child) listen(log *slog.Logger, ready func()) string {
	var wg sync.WaitGroup
	wg.Go(func() {
		eachLine(c.stdout, func(line string) {
			if line == readyLine && !c.answered {
				c.answered = true
				ready()
			}
			c.again = c.again || line == againLine
			if why, not := strings.CutPrefix(line, notDoneLine); not {
				c.report(errors.New(why))
			} else if line == doneLine {
				c.report(nil)
			}
		})
	})
	wg.Go(func() {
		eachLine(c.stderr, func(line string) {
			level, text := complaint(line)
			c.hear(level, text)
			log.Log(context.Background(), level, text, "event", "store.says")
		})
	})
	wg.Wait()
	err := c.cmd.Wait()
	why := "exit status 0"
	if err != nil {
		why = err.Error()
	}
	if c.words != "" {
		why += ": " + c.words
	}
	if c.complaint != "" && time.Since(c.complainedAt) < recently {
		why += ": " + c.complaint
	}
	return why
}

// report passes on what came of the last command.
func (c *child) report(err error) {
	select {
	case c.done <- err:
	default: // nobody waits for it any more
	}
}

// hear remembers what may explain the child's end.
func (c *child) hear(level slog.Level, text string) {
	switch {
	case level == slog.LevelWarn:
		c.complaint, c.complainedAt = text, time.Now()
	case level == slog.LevelInfo && !c.panicked:
		c.words = text
		c.panicked = strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "fatal error:")
	}
}

// complaint reads a line of etcd's logger. Its warnings are chatter (debug), its
// errors are warnings to us: what counts is whether the child lives. Any other
// line is a panic's or the child's own last words (info).
func complaint(line string) (slog.Level, string) {
	var v struct{ Level, Msg, Error string }
	if json.Unmarshal([]byte(line), &v) != nil || v.Msg == "" {
		return slog.LevelInfo, line
	}
	if v.Error != "" {
		v.Msg += ": " + v.Error
	}
	if v.Level == "warn" {
		return slog.LevelDebug, v.Msg
	}
	return slog.LevelWarn, v.Msg
}

// eachLine calls f for each line of r, cut at maxLine bytes, until r ends. It
// always drains r, or the child would block.
func eachLine(r io.Reader, f func(string)) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, more, err := in.ReadLine()
		if err != nil {
			return
		}
		text := string(line)
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
		if text = strings.TrimSpace(text); text != "" {
			f(text)
		}
	}
}
