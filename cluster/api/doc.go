// Package api is the HTTP interface of an agent: the types on the wire, the
// routes, the OpenAPI document and a typed client. It is served on a unix
// socket for people on the node (trusted by their peer credentials) and on the
// cluster address for the other node and for people elsewhere (trusted by their
// certificates). What a caller may do is its role: see access.go.
package api
