// Package server is the witness: one process that holds the claims of thousands
// of clusters, a few hundred bytes each, and changes them by compare-and-swap.
//
// A swap is answered after it is on disk. The clusters know it by TLS 1.3 with
// client certificates; each record is bound to the CA that created it.
// docs/decisions/0008-witness.md says why it is built this way.
package server
