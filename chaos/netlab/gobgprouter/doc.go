// Package gobgprouter is a small BGP router for labs on machines without a
// packaged one: GoBGP takes the nodes' routes, and the best of them, with
// equal-cost multipath over equals, go into the kernel's table.
package gobgprouter
