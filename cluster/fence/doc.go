// Package fence cuts the other node off by a command of the operator's: a BMC, a
// power strip, a switch port. What the command says on its last line is the
// evidence; anything but "off", read back, is no grant. docs/fencing.md is the
// contract with the command.
package fence
