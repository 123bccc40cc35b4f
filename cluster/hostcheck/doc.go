// Package hostcheck examines the host that a node runs on: kernel settings, the
// disk, interfaces, and whether others can be reached, with packets of full size
// too. It is a cluster.Host.
//
// It changes nothing: it writes one small file and removes it, opens connections
// and closes them, and sends a few echo requests.
package hostcheck
