// Package probe measures outages with UDP packets: a prober that sends one
// packet to each address every millisecond and remembers what became of each,
// and an echo responder that answers from the address that was asked.
package probe
