package chaos

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is what a drill does to its target.
type Fault string

// The faults.
const (
	// FaultHostSilent drops every frame inside the node, then kills the
	// agent and its children: the router sees no link go down and no reset.
	FaultHostSilent Fault = "host-silent"
	// FaultAgentStop asks the agent to stop (SIGTERM), as systemctl stop does.
	FaultAgentStop Fault = "agent-stop"
	// FaultAgentCrash kills the agent (SIGKILL); its children end with it, and the
	// host stays.
	FaultAgentCrash Fault = "agent-crash"
	// FaultAgentHang stops the agent (SIGSTOP), FaultPulseHang its pulse,
	// FaultNodeHang the agent and all its children; the host's kernel goes on.
	FaultAgentHang Fault = "agent-hang"
	FaultPulseHang Fault = "pulse-hang"
	FaultNodeHang  Fault = "node-hang"
)

// Faults lists them all, sorted.
func Faults() []Fault {
	return []Fault{FaultAgentCrash, FaultAgentHang, FaultAgentStop, FaultHostSilent, FaultNodeHang, FaultPulseHang}
}

// Step is one stage of a drill, in the order they run.
type Step string

// The steps.
const (
	// StepSettle waits until the cluster is as it should be before a fault.
	StepSettle Step = "settle"
	// StepProbe starts the probes and wants them answered.
	StepProbe Step = "probe"
	// StepFault applies the fault.
	StepFault Step = "fault"
	// StepRecover waits until every probed address answers again while the
	// fault still stands.
	StepRecover Step = "recover"
	// StepHeal waits until the node itself has taken the fault away.
	StepHeal Step = "heal"
	// StepFailback waits until the cluster is as it was before the fault.
	StepFailback Step = "failback"
	// StepMeasure ends the probes and computes the report.
	StepMeasure Step = "measure"
)

// Bounds of a scenario.
const (
	MinHealAfter = time.Second
	MaxHealAfter = 10 * time.Minute
	MinProbeHz   = 1
	MaxProbeHz   = 5000
	MaxFlows     = 64
)

// Promise is what a drill holds the cluster to. A negative bound promises
// nothing.
type Promise struct {
	// MaxOutage bounds the outage of every address while the fault stands.
	MaxOutage time.Duration `json:"max_outage_ns"`
	// MaxLost bounds the probes lost to each address while the fault stands.
	MaxLost int `json:"max_lost"`
	// MaxFailbackLost bounds the probes lost to each address after the heal.
	MaxFailbackLost int `json:"max_failback_lost"`
}

// NoBound is the value of a bound that promises nothing.
const NoBound = -1

// Scenario is one drill: what is done to whom, and what must hold.
type Scenario struct {
	Name  string `json:"name"`
	Title string `json:"title"` // one line for people
	Fault Fault  `json:"fault"`
	// Target is the node that the fault hits.
	Target string `json:"target"`
	// HealAfter is how long the fault stands, counted on the node itself.
	HealAfter time.Duration `json:"heal_after_ns"`
	// ProbeHz is the rate of probes to each address and flow.
	ProbeHz int `json:"probe_hz"`
	// Flows is the number of source ports for each address; 0 chooses by the
	// placement of the services.
	Flows   int     `json:"flows"`
	Steps   []Step  `json:"steps"`
	Promise Promise `json:"promise"`
}

// ErrScenario is wrapped by every error of [Scenario.Validate].
var ErrScenario = errors.New("scenario cannot run")

// Validate says what is wrong with s, and what would be right.
func (s Scenario) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrScenario, fmt.Sprintf(format, args...))
	}
	switch {
	case !slices.Contains(Faults(), s.Fault):
		return bad("fault %q is not known; there are: %v", s.Fault, Faults())
	case s.Target == "":
		return bad("no node to hit; name one with --node")
	case s.HealAfter < MinHealAfter || s.HealAfter > MaxHealAfter:
		return bad("heal-after %s is outside %s–%s", s.HealAfter, MinHealAfter, MaxHealAfter)
	case s.ProbeHz < MinProbeHz || s.ProbeHz > MaxProbeHz:
		return bad("probe-hz %d is outside %d–%d", s.ProbeHz, MinProbeHz, MaxProbeHz)
	case s.Flows < 0 || s.Flows > MaxFlows:
		return bad("flows %d is outside 0–%d", s.Flows, MaxFlows)
	case s.Promise.MaxOutage >= s.HealAfter:
		return bad("the promised outage %s is not shorter than heal-after %s, so the heal itself could keep the promise; raise --heal-after",
			s.Promise.MaxOutage, s.HealAfter)
	case !slices.Contains(s.Steps, StepFault):
		return bad("no step applies the fault")
	}
	return nil
}

// MaxOutage is the promise for a hard node death: the outage of any address.
// MaxCrashOutage is that for the death of the agent alone: its routers are told by
// its kernel.
const (
	MaxOutage      = 700 * time.Millisecond
	MaxCrashOutage = 100 * time.Millisecond
)

// Scenarios are the drills this release knows, by name.
func Scenarios() []Scenario {
	steps := []Step{StepSettle, StepProbe, StepFault, StepRecover, StepHeal, StepFailback, StepMeasure}
	hang := func(f Fault, title string) Scenario {
		return Scenario{
			Name: string(f), Title: title, Fault: f, HealAfter: 10 * time.Second, ProbeHz: 1000, Steps: steps,
			Promise: Promise{MaxOutage: NoBound, MaxLost: 0, MaxFailbackLost: 0},
		}
	}
	return []Scenario{
		{
			Name:  string(FaultAgentCrash),
			Title: "kill the agent of one node with SIGKILL",
			Fault: FaultAgentCrash, HealAfter: 5 * time.Second, ProbeHz: 1000,
			Steps:   steps,
			Promise: Promise{MaxOutage: MaxCrashOutage, MaxLost: NoBound, MaxFailbackLost: 0},
		},
		hang(FaultAgentHang, "let the agent of one node stand still (SIGSTOP); nothing may be lost"),
		{
			Name:  string(FaultAgentStop),
			Title: "stop the agent of one node as systemctl stop does; nothing may be lost",
			Fault: FaultAgentStop, HealAfter: 5 * time.Second, ProbeHz: 1000,
			Steps:   steps,
			Promise: Promise{MaxOutage: NoBound, MaxLost: 0, MaxFailbackLost: 0},
		},
		{
			Name:  string(FaultHostSilent),
			Title: "let one node fall silent without a link going down, and bring it back",
			Fault: FaultHostSilent, HealAfter: 20 * time.Second, ProbeHz: 1000,
			Steps:   steps,
			Promise: Promise{MaxOutage: MaxOutage, MaxLost: NoBound, MaxFailbackLost: 0},
		},
		hang(FaultNodeHang, "let agent, pulse and store of one node stand still; nothing may be lost"),
		hang(FaultPulseHang, "let the pulse of one node stand still; nothing may be lost"),
	}
}

// Find returns the scenario of that name, or an error that lists the names.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("%w: no drill is called %q; there are: %s", ErrScenario, name, strings.Join(names, ", "))
}
