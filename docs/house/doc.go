// Package house holds the rules of the code as tests: who may import whom,
// which packages are pure, how long a file and a function may be, and what
// every package and exported name owes its reader. docs/architecture.md
// explains the rules; their failure messages say what to do instead.
package house
