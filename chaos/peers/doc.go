// Package peers measures the same hard death on dyad and on what a network
// engineer would build instead: FRR or BIRD with BFD on the nodes and on the
// router, and keepalived. Each stands in a network of the same shape, holds one
// service address on both nodes, and is built to be as fast as it can be tuned by
// hand.
package peers
