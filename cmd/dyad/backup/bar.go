package backup

import (
	"time"

	"dyad/cmd/dyad/cli"
	"dyad/eventlog"
)

// barEvery is how often a bar tells how far it is, and how long it waits before
// the first time.
const barEvery = time.Second

// bar tells on stderr how far something is, if it takes long.
type bar struct {
	env  *cli.Env
	what string
	last time.Time
}

func newBar(env *cli.Env, what string) *bar { return &bar{env: env, what: what, last: time.Now()} }

func (b *bar) at(done, of eventlog.Seq) {
	if now := time.Now(); now.Sub(b.last) >= barEvery {
		b.last = now
		b.env.Note("%s %d of %d events…", b.what, done, of)
	}
}
