// Package segment keeps old events in sealed files on a node's own disk, so
// that the store in front of them stays small, and joins both into one log.
//
// A segment is a text file:
//
//	{"dyad_segment":1,"cluster":…,"first":…,"last":…,"prev":{…},"end":{…}}
//	<event as eventlog.Encode writes it>, one on each line
//	{"count":…,"sha256":…}
//
// prev and end are the heads of the log before the first and after the last
// event; sha256 is that of everything above the last line. The whole can be
// checked with sha256sum and a text tool.
//
// Where a segment ends follows from the events alone (see [Cut]). So the nodes
// of a cluster seal the same files, byte for byte, and one's copy replaces
// another's.
//
// [Store] is the directory of one node's segments. [Log] joins it with the
// trimmed log behind it.
package segment
