package root

import (
	"slices"

	"github.com/spf13/cobra"

	"dyad/cmd/dyad/announcement"
	"dyad/cmd/dyad/apply"
	"dyad/cmd/dyad/cert"
	"dyad/cmd/dyad/cli"
	"dyad/cmd/dyad/doctor"
	"dyad/cmd/dyad/explain"
	"dyad/cmd/dyad/hcs"
	"dyad/cmd/dyad/logcmd"
	"dyad/cmd/dyad/node"
	"dyad/cmd/dyad/peer"
	"dyad/cmd/dyad/pool"
	"dyad/cmd/dyad/service"
	"dyad/cmd/dyad/status"
	"dyad/cmd/dyad/takeover"
	"dyad/cmd/dyad/token"
	"dyad/cmd/dyad/vswitch"
	"dyad/cmd/dyad/witness"
)

// operators are the commands that only need an agent to talk to.
func operators(env *cli.Env) []*cobra.Command {
	return slices.Concat(
		status.Commands(env), vswitch.Commands(env), peer.Commands(env), pool.Commands(env), service.Commands(env),
		announcement.Commands(env), node.Commands(env), logcmd.Commands(env), explain.Commands(env), apply.Commands(env),
		token.Commands(env), cert.Commands(env), hcs.Commands(env), takeover.Commands(env), doctor.Commands(env), witness.Commands(env), []*cobra.Command{version(env), completion(env)},
	)
}
