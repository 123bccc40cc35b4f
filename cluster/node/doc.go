// Package node puts one node together: it is the composition root, the one
// place besides the commands that knows the adapters. [Init] and [Join] prepare
// a data directory, [Run] is the agent's process.
package node
