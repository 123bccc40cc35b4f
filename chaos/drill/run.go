package drill

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"dyad/chaos"
	"dyad/chaos/lab"
	"dyad/chaos/netlab"
	"dyad/chaos/probe"
	"dyad/cluster/api"
	"dyad/eventlog"
)

// Options of [Run].
type Options struct {
	Lab      *lab.Lab
	Scenario chaos.Scenario
	// Addresses to probe; none means those of all services.
	Addresses []netip.Addr
	Reason    string
	// Say is told the progress; nil is silent.
	Say func(format string, args ...any)
}

const (
	// wellFor is how many answers in a row make an address well.
	wellFor = 50
	// recoverLimit is how late the node may heal itself.
	recoverLimit = 30 * time.Second
	// biteFor is how long a fault gets before an answer counts as recovery.
	biteFor = 300 * time.Millisecond
	// failbackLimit bounds the way back to the state before the fault.
	failbackLimit = 2 * time.Minute
	// maxUnsettled bounds how often a drill waits for a settled state again.
	maxUnsettled = 5
	// afterwards is how long the probes go on in the restored state.
	afterwards = time.Second
)

// run is one drill under way.
type run struct {
	Options
	target, survivor lab.Node
	correlation      string
	started          time.Time
	targets          []probe.Target
	before           table
	prober           *probe.Prober
	hold             netlab.Process
	held             Held
	load             float64
	timeline         api.Timeline // of the survivor, right after traffic was back
	// noFailback says why the cluster did not get back to where it was.
	noFailback string
}

// ErrVoid means that a drill ran but showed nothing: the node it hit did not
// carry any traffic at that moment. The cluster is as it was; run it again.
var ErrVoid = errors.New("the drill showed nothing")

// Run runs a drill on a lab and returns its report, with the promises judged.
// An error means that the drill itself could not be run; a broken promise is
// no error.
func Run(ctx context.Context, o Options) (chaos.Report, error) {
	if err := o.Scenario.Validate(); err != nil {
		return chaos.Report{}, err
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	r := &run{Options: o, started: time.Now(), correlation: uuid.NewString()}
	var err error
	if r.target, err = o.Lab.Node(o.Scenario.Target); err != nil {
		return chaos.Report{}, err
	}
	if r.survivor, err = o.Lab.Node(lab.Other(o.Scenario.Target)); err != nil {
		return chaos.Report{}, err
	}
	unlock, err := lab.Lock(o.Lab.DrillLock())
	if err != nil {
		return chaos.Report{}, fmt.Errorf("another drill runs on this lab: %w", err)
	}
	defer unlock()
	if err := r.prepare(ctx); err != nil {
		return chaos.Report{}, err
	}
	defer func() {
		if r.prober != nil {
			r.prober.Stop()
		}
	}()
	err = r.strike(ctx)
	if err == nil {
		err = r.watch(ctx)
	}
	if err != nil {
		return chaos.Report{}, errors.Join(err, r.healNow())
	}
	return r.finish(ctx)
}

// prepare settles the cluster, starts the probes and says in the log that a
// drill begins.
func (r *run) prepare(ctx context.Context) error {
	var err error
	r.targets, err = targets(ctx, r.Lab, r.survivor, r.Addresses, r.Scenario.Flows)
	if err != nil {
		return err
	}
	r.Say("settle: waiting for both nodes, their sessions and the router's routes")
	if r.before, err = settle(ctx, r.Lab, r.targets, nil, settleLimit, r.Say); err != nil {
		return err
	}
	if err := r.wouldShowSomething(); err != nil {
		return err
	}
	r.prober, err = probe.Start(ctx, probe.Config{
		Do:      func(f func() error) error { return netlab.Do(r.Lab.NS(netlab.Client), f) },
		Targets: r.targets, Port: r.Lab.Plan.EchoPort, Hz: r.Scenario.ProbeHz,
	})
	if err != nil {
		return err
	}
	r.Say("probe: %d a second to each of %s", r.Scenario.ProbeHz, addresses(r.targets))
	if err := r.waitWell(ctx, "before the fault", settleLimit); err != nil {
		return err
	}
	if err := r.record(ctx, eventlog.TypeDrillStarted, nil); err != nil {
		return err
	}
	return r.stillSettled(ctx)
}

// stillSettled looks again right before the fault: on a busy machine a node may
// be held for dead for a moment, and then the other one carries its traffic.
func (r *run) stillSettled(ctx context.Context) error {
	for range maxUnsettled {
		now, why := notSettled(ctx, r.Lab, r.targets)
		if why == "" && now.equal(r.before) {
			return nil
		}
		r.Say("settle: the cluster moved meanwhile (%s); waiting again", why)
		if _, err := settle(ctx, r.Lab, r.targets, r.before, settleLimit, r.Say); err != nil {
			return err
		}
	}
	return fmt.Errorf("the cluster does not stay settled; load is %.1f\n  try: again on a quieter machine, or dyad log list --type stance.changed", loadAverage())
}

// wouldShowSomething refuses a drill that hits a node without traffic.
func (r *run) wouldShowSomething() error {
	hop, hop6 := r.Lab.Plan.NodePeer[r.target.Name], r.Lab.Plan.NodePeer6[r.target.Name]
	for _, hops := range r.before {
		if slices.Contains(hops, hop) || slices.Contains(hops, hop6) {
			return nil
		}
	}
	return fmt.Errorf("%s carries no traffic to %s, so its death would show nothing\n  try: --node %s, or a service with --prefer %s",
		r.target.Name, addresses(r.targets), r.survivor.Name, r.target.Name)
}

func addresses(ts []probe.Target) string {
	var out []string
	for _, t := range ts {
		out = append(out, t.Address.String())
	}
	if len(out) > 4 {
		return fmt.Sprintf("%s … (%d addresses)", strings.Join(out[:3], ", "), len(out))
	}
	return strings.Join(out, ", ")
}

// strike starts the process that holds the fault, and waits until it bites.
func (r *run) strike(ctx context.Context) error {
	r.load = loadAverage()
	_ = os.Remove(filepath.Join(r.target.Dir, faultFile))
	r.Say("fault: %s on %s, for %s", r.Scenario.Fault, r.target.Name, r.Scenario.HealAfter)
	cmd := exec.Command(r.Lab.Binary, "drill", "hold", "--lab-dir", r.Lab.Dir, "--node", r.target.Name,
		"--fault", string(r.Scenario.Fault), "--heal-after", r.Scenario.HealAfter.String(), "--correlation", r.correlation)
	var err error
	r.hold, err = netlab.Detach(r.target.NS, cmd, filepath.Join(r.target.Dir, "hold.log"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, holdLockLimit+agentStopLimit+5*time.Second)
	defer cancel()
	return r.poll(ctx, "the fault to bite", func() (bool, error) {
		h, err := readHeld(r.target)
		switch {
		case err != nil && !r.hold.Alive():
			return false, fmt.Errorf("the fault was not applied; its log: %s", filepath.Join(r.target.Dir, "hold.log"))
		case err != nil:
			return false, nil
		case h.Error != "":
			return false, fmt.Errorf("the fault was not applied: %s", h.Error)
		}
		r.held = h
		return true, nil
	})
}

// watch follows the outage, the heal and the failback.
func (r *run) watch(ctx context.Context) error {
	if err := wait(ctx, biteFor); err != nil {
		return err
	}
	if err := r.waitWell(ctx, "under the fault", time.Until(r.held.HealAt)); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.Say("traffic did not return: %v", err) // for the report to judge
	} else {
		// Now: a later suspicion would have instants of its own.
		if s, err := r.survivor.Client().Status(ctx); err == nil {
			r.timeline = s.Timeline[r.target.Name]
		}
		r.Say("recovered: all addresses answer; the node heals itself in %s", time.Until(r.held.HealAt).Round(time.Second))
	}
	healCtx, cancel := context.WithTimeout(ctx, time.Until(r.held.HealAt)+recoverLimit)
	defer cancel()
	err := r.poll(healCtx, "the node to heal itself", func() (bool, error) {
		h, err := readHeld(r.target)
		if err == nil && h.Error != "" {
			return false, errors.New(h.Error)
		}
		if err == nil && !h.HealedAt.IsZero() {
			r.held = h
			return true, nil
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	r.Say("healed: %s is left to itself again; waiting for the failback", r.target.Name)
	if _, err := settle(ctx, r.Lab, r.targets, r.before, failbackLimit, r.Say); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.noFailback = err.Error()
	}
	return wait(ctx, afterwards)
}

// finish stops the probes, computes the report and says in the log how the
// drill ended.
func (r *run) finish(ctx context.Context) (chaos.Report, error) {
	seen := r.prober.Stop()
	r.prober = nil
	t := r.timeline
	if t.Detected.IsZero() { // traffic came back only with the heal, or nothing was lost
		s, err := r.survivor.Client().Status(ctx)
		if err != nil {
			r.Say("no timeline: %v", err)
		}
		t = s.Timeline[r.target.Name]
	}
	per, worst := chaos.Summarize(chaos.Run{
		Start: seen.Start, FaultAt: r.held.AppliedAt, HealedAt: r.held.HealedAt, Streams: seen.Streams,
		Instants: chaos.Instants{Detected: t.Detected, Decided: t.Decided, Announced: t.Announced, NextHop: t.NextHop},
	})
	flows := 0
	for _, x := range r.targets {
		flows = max(flows, x.Flows)
	}
	report := chaos.Report{
		Drill: r.Scenario.Name, Node: r.target.Name, Survivor: r.survivor.Name, Router: r.Lab.Router,
		Correlation: r.correlation, Started: r.started, FaultAt: r.held.AppliedAt, HealedAt: r.held.HealedAt,
		Ended: time.Now(), ProbeHz: r.Scenario.ProbeHz, Flows: flows, Figures: worst, Addresses: per,
		MaxPauseMS: chaos.Ms(seen.MaxPause), Load: r.load, Promise: r.Scenario.Promise,
	}.Judge()
	if r.noFailback != "" {
		report.Broken = append(report.Broken, "no failback: "+r.noFailback)
	}
	err := r.record(ctx, eventlog.TypeDrillEnded, map[string]any{
		"outage_ms": report.OutageMS, "lost_packets": report.LostPackets,
		"failback_lost_packets": report.FailbackLost, "broken": report.Broken,
	})
	if r.Scenario.Fault == chaos.FaultHostSilent && worst.LostPackets == 0 {
		err = errors.Join(fmt.Errorf("%w: %s fell silent, and no probe was lost: its traffic had moved just before (load %.1f)\n  try: run it again on a quieter machine",
			ErrVoid, r.target.Name, r.load), err)
	}
	return report, err
}

// record puts a drill's fact into the survivor's journal.
func (r *run) record(ctx context.Context, t eventlog.Type, result map[string]any) error {
	return r.survivor.Client().RecordFact(ctx, api.FactRequest{
		Type: t, Correlation: r.correlation, Reason: r.Reason,
		Data: eventlog.DrillPayload{Drill: r.Scenario.Name, Node: r.target.Name, Result: result},
	})
}

// healNow ends the fault at once.
func (r *run) healNow() error {
	err := r.hold.Signal(unix.SIGTERM) // there may be none yet
	if errors.Is(err, netlab.ErrNoProcess) {
		return nil
	}
	return err
}

// waitWell waits until every address is answered.
func (r *run) waitWell(ctx context.Context, when string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var ill []string
	told := time.Now()
	err := r.poll(ctx, "answers "+when, func() (bool, error) {
		ill = ill[:0]
		for _, n := range r.prober.Now() {
			if n.InRow < wellFor {
				ill = append(ill, n.Address.String())
			}
		}
		if len(ill) > 0 && time.Since(told) > time.Second {
			told = time.Now()
			r.Say("no answer from %s %s", strings.Join(ill[:min(len(ill), 4)], ", "), when)
		}
		return len(ill) == 0, nil
	})
	if err != nil && len(ill) > 0 {
		return fmt.Errorf("no answer from %s: %w\n  try: dyad explain %s, dyad lab router-show", strings.Join(ill, ", "), err, ill[0])
	}
	return err
}

func (r *run) poll(ctx context.Context, what string, level func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := level()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// loadAverage is the one-minute load of the host, -1 if unknown.
func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return v
}
