// Package bench measures what dyad promises, on the real thing, and holds each
// figure against its target. The targets are one table ([Targets]); every
// performance claim in the documents is a line this package printed.
package bench
