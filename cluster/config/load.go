package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// DefaultPath is where the configuration lies unless told otherwise.
const DefaultPath = "/etc/dyad/dyad.yaml"

// Profiles of the pulse; off leaves detection to the membership.
const (
	ProfileFast         = "fast"
	ProfileStandard     = "standard"
	ProfileConservative = "conservative"
	ProfileOff          = "off"
)

// MaxFile bounds the configuration file, in bytes.
const MaxFile = 1 << 20

// Default returns the configuration before file, environment and flags.
func Default() Config {
	return Config{
		DataDir: "/var/lib/dyad", Socket: "/run/dyad/dyad.sock",
		Ports: Ports{API: 7944, Gossip: 7946, Pulse: 7947, StorePeer: 7980, StoreClient: 7979},
		Failover: Failover{
			Profile:       ProfileFast,
			ProbeInterval: Duration(100 * time.Millisecond), ProbeTimeout: Duration(50 * time.Millisecond), SuspicionMult: 1,
			FailbackDelay: Duration(10 * time.Second), FailbackMax: Duration(5 * time.Minute), FlapWindow: Duration(10 * time.Minute), Failback: FailbackAuto,
			StepDownSettle: Duration(500 * time.Millisecond),
		},
		Takeover: Takeover{
			Authority: AuthorityAuto, HoldDown: Duration(3 * time.Second), Fence: Fence{Timeout: Duration(10 * time.Second)},
		},
		Speaker: Speaker{ConnectRetry: Duration(2 * time.Second)},
		Log:     Log{Level: "info", Format: "text"},
		// A takeover reads what is in the store: 100,000 events are 0.7 s.
		Retention: Retention{HotEvents: 100_000, HotAge: Duration(30 * 24 * time.Hour), QuotaMiB: 2048},
	}
}

// Load reads a file over the defaults, then the environment (DYAD_NODE,
// DYAD_DATA_DIR, DYAD_SOCKET, DYAD_ADDRESS, DYAD_LOG_LEVEL, DYAD_LOG_FORMAT),
// and checks the result. An absent file is an error unless path is DefaultPath.
// Unknown fields, duplicate keys and a second document are refused.
func Load(path string, getenv func(string) string) (Config, error) {
	c := Default()
	b, err := readBounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && path == DefaultPath:
	case errors.Is(err, fs.ErrNotExist):
		return c, fmt.Errorf("the configuration %s does not exist\n  try: --config FILE, or create it (see docs/configuration.md)", path)
	case err != nil:
		return c, fmt.Errorf("the configuration can't be read: %w", err)
	default:
		if err := yaml.UnmarshalStrict(b, &c); err != nil {
			return c, fmt.Errorf("the configuration %s is wrong: %w", path, clean(err))
		}
	}
	if err := c.environment(getenv); err != nil {
		return c, err
	}
	return c, c.Finish()
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, MaxFile)
	}
	return b, err
}

// clean takes the decoder's own name out of an error.
func clean(err error) error {
	s := strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: ")
	return errors.New(strings.TrimPrefix(s, "error converting YAML to JSON: "))
}

func (c *Config) environment(getenv func(string) string) error {
	for name, field := range map[string]*string{
		"DYAD_NODE": &c.Node, "DYAD_DATA_DIR": &c.DataDir, "DYAD_SOCKET": &c.Socket,
		"DYAD_LOG_LEVEL": &c.Log.Level, "DYAD_LOG_FORMAT": &c.Log.Format,
	} {
		if v := getenv(name); v != "" {
			*field = v
		}
	}
	if v := getenv("DYAD_ADDRESS"); v != "" {
		a, err := netip.ParseAddr(v)
		if err != nil {
			return fmt.Errorf("DYAD_ADDRESS %q is not an IP address", v)
		}
		c.Address = a
	}
	return nil
}

// Finish fills in what follows from other fields and checks everything. The
// error lists every fault at once.
func (c *Config) Finish() error {
	if c.Node == "" {
		if h, err := os.Hostname(); err == nil {
			c.Node, _, _ = strings.Cut(h, ".")
		}
	}
	if !c.RouterID.IsValid() && c.Address.Is4() {
		c.RouterID = c.Address
	}
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Node == "", "node: a name is needed, such as node-a")
	bad(strings.ContainsAny(c.Node, " /\\\t\n"), "node: %q has a space or a slash", c.Node)
	bad(!c.Address.IsValid(), "address: this node's address for the other node is needed, such as 192.168.0.1")
	bad(c.Address.IsValid() && (c.Address.IsUnspecified() || c.Address.IsMulticast() || c.Address.Zone() != ""),
		"address: %s can't be reached by the other node", c.Address)
	bad(!c.RouterID.Is4(), "routerID: an IPv4 address is needed, as address is not one (RFC 6286)")
	bad(!filepath.IsAbs(c.DataDir), "dataDir: %q is not an absolute path", c.DataDir)
	bad(!filepath.IsAbs(c.Socket), "socket: %q is not an absolute path", c.Socket)
	bad(c.Log.Format != "text" && c.Log.Format != "json", "log.format: %q is neither text nor json", c.Log.Format)
	bad(!oneOf(c.Log.Level, "debug", "info", "warn", "error"), "log.level: %q is not debug, info, warn or error", c.Log.Level)
	errs = append(errs, c.Ports.check()...)
	errs = append(errs, c.Failover.check()...)
	errs = append(errs, c.Takeover.check()...)
	errs = append(errs, inRange("speaker.connectRetry", c.Speaker.ConnectRetry, time.Second, 2*time.Minute)...)
	errs = append(errs, c.checkSwitches()...)
	errs = append(errs, c.Access.check()...)
	errs = append(errs, c.Retention.check()...)
	errs = append(errs, c.Store.check()...)
	errs = append(errs, c.Beacon.check()...)
	if c.Store.External() {
		c.Store.finish()
		errs = append(errs, c.Takeover.checkExternal()...)
	}
	if len(errs) > 0 {
		return fmt.Errorf("the configuration is wrong:\n%w", errors.Join(errs...))
	}
	return nil
}

func (b Beacon) check() []error {
	p := b.Prefix
	if p == (netip.Prefix{}) || p.IsSingleIP() && p.Addr().IsGlobalUnicast() && !p.Addr().Is4In6() {
		return nil
	}
	return []error{fmt.Errorf("beacon.prefix: %s is not the route of one host, such as 192.0.2.251/32", p)}
}

func oneOf(v string, list ...string) bool {
	for _, l := range list {
		if v == l {
			return true
		}
	}
	return false
}

func (p Ports) check() (errs []error) {
	seen := map[int]string{}
	for _, v := range []struct {
		name string
		port int
	}{{"api", p.API}, {"gossip", p.Gossip}, {"pulse", p.Pulse}, {"storePeer", p.StorePeer}, {"storeClient", p.StoreClient}} {
		if v.port < 1 || v.port > 65535 {
			errs = append(errs, fmt.Errorf("ports.%s: %s is not 1–65535", v.name, strconv.Itoa(v.port)))
		}
		if other, dup := seen[v.port]; dup {
			errs = append(errs, fmt.Errorf("ports.%s: %d is ports.%s already", v.name, v.port, other))
		}
		seen[v.port] = v.name
	}
	return errs
}

func (f Failover) check() (errs []error) {
	errs = append(errs, inRange("failover.probeInterval", f.ProbeInterval, 20*time.Millisecond, 10*time.Second)...)
	errs = append(errs, inRange("failover.probeTimeout", f.ProbeTimeout, 5*time.Millisecond, f.ProbeInterval.Std())...)
	errs = append(errs, inRange("failover.failbackDelay", f.FailbackDelay, 100*time.Millisecond, time.Hour)...)
	errs = append(errs, inRange("failover.failbackMax", f.FailbackMax, f.FailbackDelay.Std(), 24*time.Hour)...)
	errs = append(errs, inRange("failover.flapWindow", f.FlapWindow, time.Second, 24*time.Hour)...)
	errs = append(errs, inRange("failover.stepDownSettle", f.StepDownSettle, 50*time.Millisecond, 5*time.Second)...)
	if !oneOf(f.Profile, ProfileFast, ProfileStandard, ProfileConservative, ProfileOff) {
		errs = append(errs, fmt.Errorf("failover.profile: %q is not fast, standard, conservative or off", f.Profile))
	}
	if _, _, err := f.Returns(); err != nil {
		errs = append(errs, fmt.Errorf("failover.failback: %w", err))
	}
	if f.SuspicionMult < 1 || f.SuspicionMult > 10 {
		errs = append(errs, fmt.Errorf("failover.suspicionMult: %d is not 1–10", f.SuspicionMult))
	}
	return errs
}

// minHot is a whole segment: less can't be sealed.
const minHot = 4096

func (r Retention) check() (errs []error) {
	if r.HotEvents < minHot || r.HotEvents > 1_000_000 {
		errs = append(errs, fmt.Errorf("retention.hotEvents: %d is not 4096–1000000", r.HotEvents))
	}
	if r.QuotaMiB < 16 || r.QuotaMiB > 8192 {
		errs = append(errs, fmt.Errorf("retention.quotaMiB: %d is not 16–8192", r.QuotaMiB))
	}
	return append(errs, inRange("retention.hotAge", r.HotAge, time.Hour, 10*365*24*time.Hour)...)
}

func inRange(name string, d Duration, lo, hi time.Duration) []error {
	if d.Std() < lo || d.Std() > hi {
		return []error{fmt.Errorf("%s: %s is not %s–%s", name, d.Std(), lo, hi)}
	}
	return nil
}

func (c *Config) checkSwitches() (errs []error) {
	seen := map[string]bool{}
	for i, s := range c.Switches {
		if s.Name == "" || s.Interface == "" {
			errs = append(errs, fmt.Errorf("switches[%d]: name and interface are needed", i))
		}
		if seen[s.Name+"/"+s.Interface] {
			errs = append(errs, fmt.Errorf("switches[%d]: %s on %s is declared twice", i, s.Name, s.Interface))
		}
		seen[s.Name+"/"+s.Interface] = true
	}
	return errs
}

func (a Access) check() (errs []error) {
	for what, m := range map[string]map[string]string{"users": a.Users, "groups": a.Groups} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if !oneOf(m[name], "viewer", "operator", "admin") {
				errs = append(errs, fmt.Errorf("access.%s: %s: %q is not viewer, operator or admin", what, name, m[name]))
			}
		}
	}
	return errs
}
