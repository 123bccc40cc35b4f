// Package speaker is the port to the network: a whole wish goes in, status
// comes out. A [Speaker] is told everything it should announce each time
// ([Speaker.Set]); working out the difference to what stands is its business,
// so a lost or repeated call does no harm.
//
// The package itself does no I/O but run the reconcile loop. Adapters live
// below it: speaker/gobgp speaks BGP, speaker/address puts service addresses
// on the host.
package speaker
