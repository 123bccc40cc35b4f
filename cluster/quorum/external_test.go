package quorum

import (
	"testing"
	"time"
)

// With an external store nothing is ever done: nobody takes over, returns or
// leaves, whatever is seen. Writing goes with the store, and with being a node.
func TestExternalStoreHasNoDeeds(t *testing.T) {
	named, fresh := Record{Mode: External, Epoch: 1}, Record{Mode: External}
	up := LogSight{Epoch: 1, Mode: External, Self: true, Writable: true}
	with := func(change func(*LogSight)) LogSight { l := up; change(&l); return l }
	gone := with(func(l *LogSight) { l.Self = false })
	for name, c := range map[string]struct {
		r    Record
		log  LogSight
		want Record
		mode Mode
	}{
		"well":                  {named, up, named, External},
		"first start":           {fresh, LogSight{Writable: true}, fresh, External},
		"named the first time":  {fresh, up, named, External},
		"away":                  {named, LogSight{Trouble: "x"}, named, External},
		"not read yet":          {named, LogSight{Writable: true}, named, External},
		"joining, not in it":    {Record{Mode: Joining, Epoch: 1}, gone, Record{Mode: Joining, Epoch: 1}, Joining},
		"joining, in it":        {Record{Mode: Joining, Epoch: 1}, up, named, External},
		"removed":               {named, gone, Record{Mode: Stale, Epoch: 1}, Stale},
		"removed, for good":     {Record{Mode: Stale, Epoch: 1}, up, Record{Mode: Stale, Epoch: 1}, Stale},
		"a later epoch, though": {named, with(func(l *LogSight) { l.Epoch = 4 }), Record{Mode: External, Epoch: 4}, External},
	} {
		for _, s := range []Sight{
			{},
			{Leaving: true},
			{Learner: true},
			{Authority: ByTor, Proven: true, Steady: true},
			{Word: Word{Peer: "b", AcceptLoss: true}, Peer: PeerSight{Name: "b", Silent: time.Hour}},
			{Peer: PeerSight{Name: "b", Epoch: 9, Mode: Sole}},
			{Witness: WitnessSight{Configured: true, Known: true, Claim: Claim{Epoch: 9, Mode: Sole, Holder: "b"}}},
		} {
			s.Self, s.External, s.Log = "a", true, c.log
			m := Next(c.r, s)
			if m.Do != Wait || m.Record != c.want || m.Mode != c.mode {
				t.Errorf("%s, %+v: %+v", name, s, m)
			}
			if well := c.log.Writable && c.mode == External; (m.Why == "") != well || (m.Fix == "") != well {
				t.Errorf("%s: it says %q, %q", name, m.Why, m.Fix)
			}
		}
	}
}
