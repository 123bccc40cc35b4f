// Package identity is who is who in a cluster: its certificate authority, the
// certificates of nodes and users, the join tokens, and the keys of the gossip.
//
// Both nodes hold the authority's key, so either renews its own certificate and
// admits others while the other one is dead. A certificate carries its identity
// in a URI: dyad://CLUSTER/node/NAME or dyad://CLUSTER/user/NAME?role=ROLE. Every
// connection between nodes, and every one to them over TCP, is TLS 1.3 with a
// certificate on both sides; what this package verifies is the chain, the time,
// the cluster and the kind.
//
// No secret of it is ever printed: see [Secret].
package identity
