// Package netlab builds small networks out of Linux network namespaces: two
// nodes, a router that speaks BGP, and a client, with faults that look to the
// outside like a host that died. Everything is done through netlink; nothing
// depends on the ip tool. It needs root, or a user namespace: see [Enter].
package netlab
