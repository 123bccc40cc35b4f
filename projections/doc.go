// Package projections holds the three pure functions that are the product:
//
//   - [Decide] turns a command into events, or refuses it and says why;
//   - [Fold] says what events mean: the same log gives the same [State] on
//     every node, for ever;
//   - [Desired] says what a node should tell the network now, each line with
//     its reason.
//
// Nothing here opens, waits, or reads a clock. What a function needs to know
// about the world it gets as an argument.
package projections
