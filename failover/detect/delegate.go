package detect

import (
	"encoding/json"
	"time"

	"github.com/hashicorp/memberlist"

	"dyad/failover"
)

// The three types below are the detector seen from memberlist. They are called
// from its goroutines, some of them with its locks held, so they only take
// notes and emit.
type (
	delegate Detector
	events   Detector
	pings    Detector
)

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(limit int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.meta) > limit {
		return nil
	}
	return d.meta
}

// NotifyMsg implements memberlist.Delegate: a report that was sent directly
// carries the name of its node.
func (d *delegate) NotifyMsg(b []byte) {
	d.order.Lock()
	defer d.order.Unlock()
	(*Detector)(d).report("", b)
}

// GetBroadcasts implements memberlist.Delegate.
func (*delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (*delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (*delegate) MergeRemoteState([]byte, bool) {}

// report emits what a node says of itself. The caller holds order.
func (d *Detector) report(node string, b []byte) {
	var r failover.Report
	if len(b) == 0 || json.Unmarshal(b, &r) != nil {
		return
	}
	if node == "" {
		node = r.Node
	}
	if node == "" || node == d.cfg.Node {
		return
	}
	d.mu.Lock()
	member := d.member[node] != nil
	if member {
		d.lastHeard[node], d.goodbye[node] = d.cfg.Now(), r.Stopping
	}
	d.mu.Unlock()
	if !member {
		return // see Detector.member; its metadata comes with the join
	}
	d.cfg.Emit(failover.PeerReport{Node: node, Report: r})
}

// NotifyJoin implements memberlist.EventDelegate.
func (e *events) NotifyJoin(n *memberlist.Node) {
	d := (*Detector)(e)
	if n.Name == d.cfg.Node {
		return
	}
	d.order.Lock()
	defer d.order.Unlock()
	d.mu.Lock()
	own := *n
	d.member[n.Name], d.lastHeard[n.Name] = &own, d.cfg.Now()
	d.mu.Unlock()
	d.cfg.Emit(failover.PeerAlive{Node: n.Name, Sensor: failover.SensorMemberlist})
	d.report(n.Name, n.Meta)
}

// NotifyUpdate implements memberlist.EventDelegate.
func (e *events) NotifyUpdate(n *memberlist.Node) {
	e.order.Lock()
	defer e.order.Unlock()
	e.mu.Lock()
	if e.member[n.Name] != nil {
		own := *n // it may have a new address
		e.member[n.Name] = &own
	}
	e.mu.Unlock()
	(*Detector)(e).report(n.Name, n.Meta)
}

// NotifyLeave implements memberlist.EventDelegate. It does not say whether the
// node left or died; the node's own last word does.
func (e *events) NotifyLeave(n *memberlist.Node) {
	d := (*Detector)(e)
	if n.Name == d.cfg.Node {
		return
	}
	d.order.Lock()
	defer d.order.Unlock()
	d.mu.Lock()
	last, bye, ml := d.lastHeard[n.Name], d.goodbye[n.Name], d.ml
	delete(d.goodbye, n.Name)
	delete(d.member, n.Name)
	d.mu.Unlock()
	if bye {
		d.cfg.Emit(failover.PeerLeft{Node: n.Name, Sensor: failover.SensorMemberlist})
		return
	}
	d.cfg.Emit(d.death(n.Name, last, ml))
}

// death words the end of a node with the readings behind it.
func (d *Detector) death(node string, last time.Time, ml *memberlist.Memberlist) failover.PeerSilent {
	evidence := map[string]any{
		"probe_interval_ms": d.cfg.ProbeInterval.Milliseconds(), "probe_timeout_ms": d.cfg.ProbeTimeout.Milliseconds(),
		"suspicion_mult": d.cfg.SuspicionMult,
	}
	if ml != nil { // nil while New has not returned
		evidence["health_score"] = ml.GetHealthScore()
	}
	var silence time.Duration
	if !last.IsZero() {
		silence = d.cfg.Now().Sub(last)
		evidence["last_heard"], evidence["silence_ms"] = last.UTC(), silence.Milliseconds()
	}
	return failover.PeerSilent{Node: node, Sensor: failover.SensorMemberlist, Silence: silence, Evidence: evidence}
}

// AckPayload implements memberlist.PingDelegate.
func (*pings) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate.
func (p *pings) NotifyPingComplete(n *memberlist.Node, _ time.Duration, _ []byte) {
	d := (*Detector)(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastHeard[n.Name] = d.cfg.Now()
}
