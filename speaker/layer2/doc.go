// Package layer2 is a speaker for segments without a router that listens: it
// answers ARP and neighbor discovery for the service addresses that this node
// owns, and makes neighbors' caches follow when the owner changes. What to say,
// and when, is decided by speaker/layer2/owner; this package has the sockets.
//
// Service addresses are on another interface than the segment's (speaker/address),
// so the kernel answers for none of them as long as arp_ignore is 1; the package
// sets that, and arp_announce, on the interfaces it works on. A port of a bridge or
// bond is taken for the bridge or bond itself. Interfaces may come and go.
//
// It works in the network namespace of the process.
package layer2
