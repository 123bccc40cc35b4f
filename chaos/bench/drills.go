package bench

import (
	"context"
	"time"

	"dyad/chaos"
	"dyad/chaos/drill"
	"dyad/chaos/lab"
)

// drills is how often each drill is run unless told otherwise.
const drills = 10

// deadFor is how long a killed node stays away in a benchmark.
const deadFor = 4 * time.Second

func reports(ctx context.Context, o Options, name string) (out []chaos.Report, err error) {
	err = withLab(ctx, o, func(l *lab.Lab) error {
		if err := l.Prepare(ctx); err != nil {
			return err
		}
		s, err := chaos.Find(name)
		if err != nil {
			return err
		}
		s.Target, s.HealAfter = lab.NodeNames()[1], max(deadFor, s.Promise.MaxOutage+time.Second)
		out, err = drill.Repeat(ctx, drill.Options{Lab: l, Scenario: s, Reason: "bench", Say: o.Say}, o.times(drills))
		return err
	})
	return out, err
}

// death is a hard node death: no link down for the router, hold time 90 s.
func death(ctx context.Context, o Options, r *Recorder) error {
	host := watchStalls()
	list, err := reports(ctx, o, string(chaos.FaultHostSilent))
	host.end()
	if err != nil {
		return err
	}
	rows := map[string][]float64{}
	for _, rep := range list {
		rows["outage"] = append(rows["outage"], rep.OutageMS)
		rows["detect"] = append(rows["detect"], rep.DetectMS)
		rows["decide"] = append(rows["decide"], rep.DecideMS)
		rows["announce"] = append(rows["announce"], rep.AnnounceMS)
		rows["converge"] = append(rows["converge"], rep.ConvergeMS)
		rows["host-stall"] = append(rows["host-stall"],
			chaos.Ms(host.longest(rep.FaultAt, rep.FaultAt.Add(time.Duration(rep.OutageMS*float64(time.Millisecond))))))
		rows["failback-lost"] = append(rows["failback-lost"], float64(rep.FailbackLost))
	}
	for _, part := range []string{"outage", "detect", "decide", "announce", "converge", "host-stall"} {
		r.Spread("death/"+part, "ms", rows[part])
	}
	r.Spread("death/failback-lost", "packets", rows["failback-lost"])
	return nil
}

// stop is a planned stop of an agent, and its way back.
func stop(ctx context.Context, o Options, r *Recorder) error {
	list, err := reports(ctx, o, string(chaos.FaultAgentStop))
	if err != nil {
		return err
	}
	var lost []float64
	for _, rep := range list {
		lost = append(lost, float64(rep.LostPackets+rep.FailbackLost))
	}
	r.Spread("stop/lost", "packets", lost)
	return nil
}
