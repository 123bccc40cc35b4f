// Package demo shows a failover from beginning to end: it brings a lab up,
// types the commands an operator would type, kills a node under traffic, and
// takes everything down again, however it ends.
package demo
