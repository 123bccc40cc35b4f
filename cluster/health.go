package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"dyad/cluster/api"
	"dyad/cluster/quorum"
	"dyad/cluster/steward"
	"dyad/eventlog"
	"dyad/projections"
	"dyad/speaker"
)

// diagnosis is what the health rules look at.
type diagnosis struct {
	now       time.Time
	self      string
	snap      *Snapshot
	sessions  []speaker.Session
	journal   string // why facts can't be journalled
	pending   int
	storeUp   bool
	restarts  int
	foreign   []string
	refused   *projections.Refusal
	started   time.Time
	pulse     *PulseStatus // nil without one
	holdings  []speaker.Holding
	trouble   []string // of layer 2
	writeable bool
	why       string
	beacon    string // see beaconOf

	certificates []api.Certificate
	size         *api.StoreSize
	retention    string   // why old events can't be kept as they should
	damaged      []string // segments
	missing      eventlog.Seq
}

// Thresholds of the health rules.
const (
	sessionGrace   = 10 * time.Second // a session may take this long after a start
	poolWarnFree   = 10               // percent
	restartsToWarn = 3
)

// rule is one entry of the registry. The text names the command that fixes it.
type rule struct {
	code     string
	severity api.Severity
	affects  string
	find     func(diagnosis) []string // one text for each finding
}

// registry is the one list of conditions that status, doctor, metrics and the
// API serve.
var registry = []rule{
	{"log-not-writable", api.Critical, "changes are refused; announcements go on", logNotWritable},
	{"log-forked", api.Critical, "two histories grow, and one will be given up", logForked},
	{"not-synced", api.Warning, "this node announces at the last preference from its checkpoint", notSynced},
	{"node-silent", api.Critical, "no node is left to take over if this one fails", nodeSilent},
	{"beacon-alive", api.Critical, "the routers' word does not give the log to this node", beaconAlive},
	{"takeover", api.Warning, "this node carries all traffic", takeover},
	{"isolated", api.Critical, "this node has stepped down; the other one carries its traffic", isolated},
	{"pulse-down", api.Warning, "a silent death is noticed in 200–400 ms instead of 15", pulseDown},
	{"pulse-no-realtime", api.Warning, "under load the other node may be suspected though it lives, which moves traffic and loses none", pulseLate},
	{"path-down", api.Warning, "the nodes hear each other on the other paths only", pathDown},
	{"node-drained", api.Warning, "one node carries all traffic", drained},
	{"single-node", api.Info, "a failure of this node stops every service", singleNode},
	{"session-down", api.Critical, "the router does not hear this node", sessionDown},
	{"address-conflict", api.Critical, "neighbors may send the address's traffic to the other host", addressConflict},
	{"layer2-trouble", api.Critical, "addresses without a router may be answered for by nobody, or by both nodes", layer2Trouble},
	{"no-peer", api.Warning, "addresses are not announced", noPeer},
	{"check-failed", api.Warning, "the service is announced by the other node only", checkFailed},
	{"pool-low", api.Warning, "new services may get no address", poolLow},
	{"speaker-error", api.Critical, "the newest announcements are not out", speakerError},
	{"store-down", api.Critical, "changes are refused; announcements go on", storeDown},
	{"store-restarts", api.Warning, "changes pause at every restart", storeRestarts},
	{"store-size", api.Critical, "changes are refused; announcements go on", storeFull},
	{"store-size", api.Warning, "fewer events than configured stay in the store", storeFilling},
	{"segment-damaged", api.Warning, "a part of the log can't be read on this node", segmentDamaged},
	{"segments-missing", api.Warning, "old events can't be read on this node", segmentsMissing},
	{"retention-failing", api.Warning, "old events stay in the store, which fills up", retentionFailing},
	{"journal-failing", api.Critical, "facts are kept in memory only", journalFailing},
	{"foreign-address", api.Warning, "dyad leaves the address alone", foreignAddress},
	{"config-refused", api.Critical, "this node's declaration is not in the log", configRefused},
	{"certificate-expiring", api.Critical, "nodes and users are not let in once it expired", expiringCertificates},
	{"skipped-events", api.Warning, "this release could not read some events", skippedEvents},
}

// diagnose runs every rule.
func diagnose(d diagnosis) []api.Condition {
	out := []api.Condition{}
	for _, r := range registry {
		for _, text := range r.find(d) {
			out = append(out, api.Condition{Code: r.code, Severity: r.severity, Text: text, Affects: r.affects})
		}
	}
	return out
}

func when(ok bool, format string, args ...any) []string {
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf(format, args...)}
}

func logNotWritable(d diagnosis) []string { return when(!d.writeable, "%s", d.why) }

// logForked: both nodes write alone at one epoch. Only contradicting words of
// operators, or of routers, lead there.
func logForked(d diagnosis) (out []string) {
	s := d.snap.State
	if s.Mode != string(quorum.Sole) || !slices.Equal(s.Writers, []string{d.self}) {
		return nil
	}
	for _, n := range s.NodeNames() {
		r, told := d.snap.Reports[n]
		if n == d.self || !told || d.snap.View.Nodes[n] != projections.Alive {
			continue
		}
		out = append(out, when(r.Mode == string(quorum.Sole) && r.Epoch == s.Head.Epoch,
			"%s writes a history of its own at epoch %d too; decide which to keep: stop dyad on the other node, then on the one to keep: dyad takeover --confirm OTHER --reason TEXT", n, r.Epoch)...)
	}
	return out
}

func notSynced(d diagnosis) []string {
	return when(!d.snap.Synced, "the log has not been read to its end since the agent started; see the log of the store")
}

func nodeSilent(d diagnosis) (out []string) {
	for n, v := range d.snap.View.Nodes {
		if v.Silent() {
			out = append(out, fmt.Sprintf("%s is %s; try on %s: systemctl start dyad", n, v, n))
		}
	}
	slices.Sort(out)
	return out
}

func takeover(d diagnosis) []string {
	return when(d.snap.View.Stance == projections.StanceTakeover, "%s took over: %s", d.self, d.snap.View.Reason.Text)
}

func drained(d diagnosis) (out []string) {
	for _, n := range d.snap.State.NodeNames() {
		out = append(out, when(d.snap.State.Drained[n], "%s is drained; try: dyad node undrain %s", n, n)...)
	}
	return out
}

func singleNode(d diagnosis) []string {
	return when(d.snap.Synced && len(d.snap.State.Nodes) < projections.MaxNodes, "the cluster has one node; try on the other one: dyad join ADDRESS --token-file FILE, with what dyad token create printed")
}

func sessionDown(d diagnosis) (out []string) {
	if d.now.Sub(d.started) < sessionGrace {
		return nil
	}
	for _, s := range d.sessions {
		why := s.LastError
		if why == "" {
			why = "no answer yet"
		}
		out = append(out, when(s.State != speaker.Established, "the session with %s is %s: %s; try: dyad peer show %s", s.Peer, s.State, why, s.Peer)...)
	}
	return out
}

func noPeer(d diagnosis) (out []string) {
	for _, a := range d.snap.Announcements {
		if !a.Announced && slices.Contains([]string{"no-interface", "no-peer-of-family", "no-switch"}, a.Reason.Code) {
			text := a.Reason.Text
			if !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out
}

func checkFailed(d diagnosis) (out []string) {
	for name, why := range d.snap.View.Unhealthy {
		out = append(out, fmt.Sprintf("%s on %s: %s; try: dyad service show %s", name, d.self, why, name))
	}
	slices.Sort(out)
	return out
}

func poolLow(d diagnosis) (out []string) {
	for _, v := range api.PoolViews(d.snap.State) {
		size, err := strconv.ParseInt(v.Size, 10, 64)
		if err != nil {
			continue // an IPv6 pool of more than 2^63 addresses is never low
		}
		left := size - int64(v.Used)
		out = append(out, when(size > 1 && left*100 < size*poolWarnFree,
			"pool %s has %d of %d addresses left; try: dyad pool set %s with one more range", v.Name, left, size, v.Name)...)
	}
	return out
}

func speakerError(d diagnosis) []string {
	return when(d.snap.SpeakerError != "", "the speaker refuses the newest announcements: %s", d.snap.SpeakerError)
}

func storeDown(d diagnosis) []string {
	return when(!d.storeUp, "the store is not running; it is started again, see the agent's log")
}

func storeFull(d diagnosis) []string {
	if d.size == nil || !d.size.NoSpace && d.size.Percent() < refusePercent {
		return nil
	}
	facts := ""
	if d.size.NoSpace || d.size.Percent() >= waitPercent {
		facts = "; facts wait in the journal too"
	}
	return []string{fmt.Sprintf("the store takes %d %% of its %d MiB%s; try: start both nodes, so that old events can go; "+
		"else dyad backup FILE, then a larger retention.quotaMiB", d.size.Percent(), d.size.Quota>>20, facts)}
}

func storeFilling(d diagnosis) []string {
	return when(d.size != nil && !d.size.NoSpace && d.size.Quota > 0 && d.size.Percent() < refusePercent && d.size.InUse*100 >= d.size.Quota*pressPercent,
		"the store holds %d MiB of at most %d MiB; try: start both nodes, so that old events can go", size(d.size).InUse>>20, size(d.size).Quota>>20)
}

func size(s *api.StoreSize) api.StoreSize {
	if s == nil {
		return api.StoreSize{}
	}
	return *s
}

func segmentDamaged(d diagnosis) (out []string) {
	for _, text := range d.damaged {
		out = append(out, text+"; it is fetched from the other node; try: dyad log verify --from-start")
	}
	return out
}

func segmentsMissing(d diagnosis) []string {
	return when(d.missing > 0, "%d old events are not here yet; they are fetched from the other node; try there: dyad status", d.missing)
}

func retentionFailing(d diagnosis) []string {
	return when(d.retention != "", "%s; free space in the data directory, and see the agent's log", d.retention)
}

func storeRestarts(d diagnosis) []string {
	return when(d.restarts >= restartsToWarn, "the store was restarted %d times since the agent started; see the agent's log", d.restarts)
}

func journalFailing(d diagnosis) []string {
	return when(d.journal != "", "the journal can't be written: %s; free space in the data directory", d.journal)
}

func foreignAddress(d diagnosis) (out []string) {
	for _, f := range d.foreign {
		out = append(out, fmt.Sprintf("%s was on the host before dyad; remove it by hand to let dyad manage it", f))
	}
	return out
}

func configRefused(d diagnosis) []string {
	if d.refused == nil {
		return nil
	}
	return []string{d.refused.Error()}
}

func skippedEvents(d diagnosis) []string {
	return when(d.snap.State.Skipped > 0, "%d events were skipped; try: install the newest dyad on both nodes", d.snap.State.Skipped)
}

// writable tells whether changes can be made now; if not, why and what to do.
func (a *Agent) writable(s *Snapshot) (bool, string) {
	switch {
	case !a.storeUp():
		return false, "the store is not running; it is being started again; try: wait a moment"
	case a.with.Quorum != nil:
		if q := a.with.Quorum.Status(); !q.Writable {
			return false, oneLine(q)
		}
	}
	switch {
	case s.State.Head.Epoch == 0:
		return false, "the log is empty; the node has not finished its first start; try: wait a moment"
	case !s.Synced:
		return false, "the log has not been read to its end yet; try: wait a moment"
	}
	return true, ""
}

// oneLine says why the log can't be written and what helps.
func oneLine(q steward.Status) string {
	why, fix := q.Why, q.Fix
	if why == "" {
		why = "the store has not answered since the last look"
	}
	if fix == "" {
		fix = "wait a moment"
	}
	return string(q.Mode) + ": " + why + "; try: " + fix
}

// mode is what this node is in the log, as shown.
func (a *Agent) mode(s *Snapshot) quorum.Mode {
	if a.with.Quorum != nil {
		return a.with.Quorum.Status().Mode
	}
	return quorum.Mode(s.State.Mode)
}
