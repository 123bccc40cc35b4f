// Package gobgp is a [speaker.Speaker] that speaks BGP (RFC 4271) with GoBGP.
//
// One GoBGP server holds all sessions of a node, without its gRPC listener and
// without accepting connections unless asked to. Nothing that a router sends is
// accepted into a table, and graceful restart is off.
//
// GoBGP has one global table with one best path per prefix, but a [speaker.Route]
// names its peer: the same prefix may go to two routers with different
// attributes, and a route for one must never reach the other. Therefore every
// peer gets a routing instance (a VRF in GoBGP's words, RFC 4364) of its own,
// with its own route distinguisher and route target. GoBGP tells a neighbour of
// an instance only what that instance imports, as plain unicast without the
// target, so routes cannot leak by a policy that was forgotten.
//
// Every neighbour has its own local ASN; the server's global ASN is not seen on
// the wire.
//
// GoBGP 4.8 cannot propose hold time 0: it takes it for "not given" and proposes
// 90. A peer with hold time 0 proposes 65535 seconds instead, the longest there
// is; the negotiated value is 0 exactly if the router proposes 0.
package gobgp
