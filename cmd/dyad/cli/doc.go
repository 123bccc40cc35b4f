// Package cli is what all of dyad's commands share: the environment they run
// in, the global flags, the exit codes, how answers are printed and how a
// change is sent to the cluster. stdout is the answer, stderr everything else.
//
// A command package exports
//
//	func Commands(env *cli.Env) []*cobra.Command
//
// and reads the flags from env when a command runs, not before.
package cli
