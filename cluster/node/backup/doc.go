// Package backup is the format of a backup: one file with every event of the
// log, the state of the node that wrote it, and, encrypted, its secrets.
//
// The file is encrypted with age (age-encryption.org), by a passphrase or to
// recipients; without secrets it may be left plain. Inside it is
//
//	dyad backup 1\n
//	a tar archive:
//	  segments/<first event, 16 hex digits>.seg   eventlog/segment, in order
//	  node.state
//	  secrets/<path below the data directory>     only if encrypted
//	  manifest.json                               [Manifest], the last entry
//	the SHA-256 of everything before, 32 bytes
//
// So it streams in one pass, can be opened with age, tail and tar where dyad is
// not, and no changed byte passes.
package backup
