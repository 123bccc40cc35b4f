// Package lab is a two-node cluster on one machine: namespaces, a router, an
// agent on each node under a supervisor, echo responders and a client. It is
// brought up and taken down by commands that need not know each other: all that
// is known of a lab lies in its directory.
package lab
