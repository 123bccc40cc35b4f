package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Verdicts of a figure.
const (
	OK   = "ok"
	Miss = "miss"
	None = "none" // there is no target
)

// Figure is one measured number.
type Figure struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Target  *Target `json:"target,omitempty"`
	Verdict string  `json:"verdict"`
	// N is how many measurements it is drawn from.
	N int `json:"n,omitempty"`
}

// Machine is where a run took place.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Results are a whole run, as results.json holds it.
type Results struct {
	Commit  string    `json:"commit"`
	Started time.Time `json:"started"`
	Machine Machine   `json:"machine"`
	// Load is the one-minute load before the run and after it.
	Load    [2]string `json:"load"`
	Figures []Figure  `json:"figures"`
	// Raw holds every measurement behind the figures, by name.
	Raw map[string][]float64 `json:"raw"`
}

// Recorder prints figures as they come and keeps them.
type Recorder struct {
	out io.Writer
	res Results
}

// NewRecorder prints to out.
func NewRecorder(out io.Writer) *Recorder {
	return &Recorder{out: out, res: Results{
		Commit: command("git", "describe", "--always", "--dirty"), Started: time.Now().UTC(),
		Machine: Machine{
			CPU: cpu(), Cores: runtime.NumCPU(), Kernel: command("uname", "-r"), Go: runtime.Version(),
		},
		Load: [2]string{load(), ""}, Raw: map[string][]float64{},
	}}
}

// Figure records one number and prints its line.
func (r *Recorder) Figure(name string, value float64, unit string, n int) {
	f := Figure{Name: name, Value: value, Unit: unit, N: n, Verdict: None}
	target := "none"
	if t, ok := targetOf(name); ok {
		f.Target, f.Verdict, target = &t, OK, t.String()
		if !t.met(value) {
			f.Verdict = Miss
		}
	}
	r.res.Figures = append(r.res.Figures, f)
	fmt.Fprintf(r.out, "bench name=%s value=%.6g unit=%s target=%s verdict=%s n=%d\n", name, value, unit, target, f.Verdict, n)
}

// Spread records the median, the 99th percentile and the maximum of a row of
// measurements as three figures, and keeps the row.
func (r *Recorder) Spread(name, unit string, row []float64) {
	if len(row) == 0 {
		return
	}
	r.res.Raw[name] = row
	s := slices.Sorted(slices.Values(row))
	r.Figure(name+"/median", quantile(s, 0.5), unit, len(s))
	r.Figure(name+"/p99", quantile(s, 0.99), unit, len(s))
	r.Figure(name+"/max", s[len(s)-1], unit, len(s))
}

// quantile of a sorted row, by the nearest rank.
func quantile(s []float64, q float64) float64 {
	return s[max(0, int(math.Ceil(q*float64(len(s))))-1)]
}

// Misses counts the figures beyond their target.
func (r *Recorder) Misses() int {
	n := 0
	for _, f := range r.res.Figures {
		if f.Verdict == Miss {
			n++
		}
	}
	return n
}

// Save writes results.json.
func (r *Recorder) Save(path string) error {
	r.res.Load[1] = load()
	b, err := json.MarshalIndent(r.res, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func command(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

func cpu() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
