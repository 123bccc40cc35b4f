// Package labtest holds the tests that need a whole cluster: real agents, real
// routers, real deaths. They need root.
package labtest
