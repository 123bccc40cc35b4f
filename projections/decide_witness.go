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

// CodeEpochMoved: what was prepared for one epoch came at another.
const CodeEpochMoved = "epoch-moved"

// modePair is the mode of two writers.
const modePair = "PAIR"

// setWitness refuses to put one witness in the place of another by mistake, or
// at another epoch than its claim was registered at.
func (f *folder) setWitness(c SetWitness) ([]eventlog.Draft, error) {
	if err := checkWitness(c); err != nil {
		return nil, err
	}
	now, old := eventlog.Witness{URL: c.URL, Fingerprint: c.Fingerprint}, f.s.Witness
	if f.s.Mode == ModeExternal {
		return nil, refuse("external-store", "witness "+now.URL, "dyad status",
			"the log is in an external store, which needs neither node: nobody takes it over, so no witness is asked")
	}
	if v := f.s.Voter.Name; v != "" {
		return nil, refuse("third-voter", "witness "+now.URL, "dyad status",
			"%s holds a third vote: any two of the three write the log, so nobody takes it over and no witness is asked", v)
	}
	if old.URL != "" && old != now && !c.Replace {
		return nil, refuse("witness-set", "witness "+now.URL, "dyad witness add --replace, and the same URL",
			"the cluster has one already, %s, and a cluster has one at a time", old.URL)
	}
	if old != now {
		if err := f.atEpoch(now.URL, c.Epoch); err != nil {
			return nil, err
		}
	}
	return change(eventlog.TypeWitnessSet, "witness", now, old, old.URL != "")
}

// atEpoch refuses what was prepared at the witness for another epoch.
func (f *folder) atEpoch(url string, e eventlog.Epoch) error {
	if e == 0 || e == f.s.Head.Epoch {
		return nil
	}
	return refuse(CodeEpochMoved, "witness "+url, "dyad status, then repeat the command",
		"the set of writers changed meanwhile: the log was at epoch %d and is at %d", e, f.s.Head.Epoch)
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

// removeWitness raises the epoch of a pair with the same append, so that a node
// that has it and one that has not are told apart by it.
func (f *folder) removeWitness(c RemoveWitness) ([]eventlog.Draft, error) {
	old := f.s.Witness
	if old.URL == "" {
		return nil, refuse("witness-unknown", "witness", "dyad witness add URL", "the cluster has none")
	}
	if err := f.atEpoch(old.URL, c.Epoch); err != nil {
		return nil, err
	}
	removed, err := change(eventlog.TypeWitnessRemoved, "witness", eventlog.Removed{Name: old.URL}, old, true)
	if err != nil || f.s.Mode != modePair {
		return removed, err
	}
	raised, err := f.startEpoch(StartEpoch{Epoch: f.s.Head.Epoch + 1, Mode: modePair, Writers: f.s.Writers})
	return append(removed, raised...), err
}

// raiseEpoch refuses to raise the epoch for a witness that is no longer the one.
func (f *folder) raiseEpoch(c RaiseEpoch) ([]eventlog.Draft, error) {
	switch {
	case c.To <= f.s.Head.Epoch:
		return nil, nil
	case f.s.Mode != modePair || f.s.Witness != c.Witness:
		return nil, refuse(CodeEpochMoved, "witness "+c.Witness.URL, "dyad status",
			"the log is %s with the witness %q now", f.s.Mode, f.s.Witness.URL)
	}
	return f.startEpoch(StartEpoch{Epoch: c.To, Mode: modePair, Writers: f.s.Writers})
}
