package projections

import (
	"fmt"
	"strings"

	"dyad/eventlog"
)

// maxWitnessURL bounds a witness's URL, in bytes.
const maxWitnessURL = 1024

// fingerprintDigits is the length of a SHA-256 in hexadecimal.
const fingerprintDigits = 64

// setWitness refuses to put one witness in the place of another: a node that has
// not heard of the change would go on asking the old one, and each of the two
// could say yes to one node.
func (f *folder) setWitness(c SetWitness) ([]eventlog.Draft, error) {
	if err := checkWitness(c); err != nil {
		return nil, err
	}
	now, old := eventlog.Witness(c), f.s.Witness
	if old.URL != "" && old != now {
		return nil, refuse("witness-set", "witness "+now.URL, "dyad witness remove, then add the new one",
			"the cluster has one already, %s, and a cluster has one at a time", old.URL)
	}
	return change(eventlog.TypeWitnessSet, "witness", now, old, old.URL != "")
}

func checkWitness(c SetWitness) error {
	scheme, rest, ok := strings.Cut(c.URL, "://")
	why := ""
	switch {
	case !ok || scheme != "https" && scheme != "file" && scheme != "etcd" || rest == "":
		why = "a witness is at an https, file or etcd URL"
	case len(c.URL) > maxWitnessURL:
		why = fmt.Sprintf("its URL is longer than %d bytes", maxWitnessURL)
	case strings.ContainsAny(c.URL, "#@ \t\n\r"):
		why = "its URL holds a user, a fragment or a space; what stands in the log can be read by everybody"
	case c.Fingerprint != "" && (scheme != "https" || len(c.Fingerprint) != fingerprintDigits || strings.Trim(c.Fingerprint, "0123456789abcdef") != ""):
		why = "its fingerprint is not the SHA-256 of a server's certificate in 64 hexadecimal digits"
	}
	if why == "" {
		return nil
	}
	return refuse("witness-url", "witness", "dyad witness add https://HOST:PORT#FINGERPRINT, as dyad witness serve prints it", "%s", why)
}

func (f *folder) removeWitness() ([]eventlog.Draft, error) {
	old := f.s.Witness
	if old.URL == "" {
		return nil, refuse("witness-unknown", "witness", "dyad witness add URL", "the cluster has none")
	}
	return change(eventlog.TypeWitnessRemoved, "witness", eventlog.Removed{Name: old.URL}, old, true)
}
