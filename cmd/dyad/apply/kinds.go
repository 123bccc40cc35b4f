package apply

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dyad/cluster/api"
	"dyad/cmd/dyad/parse"
	"dyad/eventlog"
	"dyad/projections"
)

// Item is one document of a file.
type Item struct {
	// Where is the document, for errors.
	Where string
	spec  spec
}

// spec is what a document says.
type spec interface {
	fields() string
	// check reads the values; the rules check them later.
	check() error
	// command is what has to be done, with the switches as they stand.
	command([]api.SwitchView) projections.Command
	// order puts what others depend on first.
	order() int
}

var kinds = map[string]func() spec{
	"Switch":  func() spec { return &switchSpec{} },
	"Peer":    func() spec { return &peerSpec{} },
	"Pool":    func() spec { return &poolSpec{} },
	"Service": func() spec { return &serviceSpec{} },
}

// number is a number as it was written, so that any text gets the parsers'
// answer.
type number string

// UnmarshalJSON takes a number or a text.
func (n *number) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*n = number(text)
		return nil
	}
	*n = number(b)
	return nil
}

type switchSpec struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Compute    *bool  `json:"compute"`
	Storage    *bool  `json:"storage"`
	Management *bool  `json:"management"`
}

func (*switchSpec) fields() string { return "name, compute, storage, management" }
func (*switchSpec) order() int     { return 0 }

func (s *switchSpec) check() error { return needName("Switch", s.Name) }

// command keeps the roles that the document does not mention.
func (s *switchSpec) command(now []api.SwitchView) projections.Command {
	sw := eventlog.Switch{Name: s.Name, Source: "api"}
	for _, v := range now {
		if v.Name == s.Name {
			sw = v.Switch
		}
	}
	for _, r := range []struct {
		want *bool
		is   *bool
	}{{s.Compute, &sw.Compute}, {s.Storage, &sw.Storage}, {s.Management, &sw.Management}} {
		if r.want != nil {
			*r.is = *r.want
		}
	}
	return projections.DeclareSwitch{Switch: sw}
}

type peerSpec struct {
	Kind     string `json:"kind"`
	Address  string `json:"address"`
	Switch   string `json:"switch"`
	PeerASN  number `json:"peerASN"`
	SelfASN  number `json:"selfASN"`
	HoldTime number `json:"holdTime"`

	cmd projections.SetPeer
}

func (*peerSpec) fields() string { return "address, switch, peerASN, selfASN, holdTime" }
func (*peerSpec) order() int     { return 1 }

func (s *peerSpec) check() (err error) {
	c := projections.SetPeer{Switch: s.Switch}
	if c.Address, err = parse.Address("address", s.Address); err != nil {
		return err
	}
	if s.Switch == "" {
		return &parse.Error{What: "peer " + s.Address, Why: "the switch is missing", Fix: "switch: vSwitch1"}
	}
	if c.PeerASN, err = parse.ASN("peerASN", string(s.PeerASN)); err != nil {
		return err
	}
	if c.SelfASN, err = parse.ASN("selfASN", string(s.SelfASN)); err != nil {
		return err
	}
	if s.HoldTime != "" {
		hold, err := parse.HoldTime("holdTime", string(s.HoldTime))
		if err != nil {
			return err
		}
		c.HoldTime = &hold
	}
	s.cmd = c
	return nil
}

func (s *peerSpec) command([]api.SwitchView) projections.Command { return s.cmd }

type poolSpec struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Ranges []string `json:"ranges"`
	Switch string   `json:"switch"`
	Manual bool     `json:"manual"`

	ranges []eventlog.Range
}

func (*poolSpec) fields() string { return "name, ranges, switch, manual" }
func (*poolSpec) order() int     { return 2 }

func (s *poolSpec) check() (err error) {
	if err := needName("Pool", s.Name); err != nil {
		return err
	}
	s.ranges, err = parse.Ranges(s.Ranges)
	return err
}

func (s *poolSpec) command([]api.SwitchView) projections.Command {
	return projections.SetPool{Name: s.Name, Ranges: s.ranges, Switch: s.Switch, Manual: s.Manual}
}

type serviceSpec struct {
	Kind          string   `json:"kind"`
	Name          string   `json:"name"`
	Pool          string   `json:"pool"`
	Addresses     []string `json:"addresses"`
	Family        string   `json:"family"`
	Placement     string   `json:"placement"`
	Prefer        string   `json:"prefer"`
	Check         string   `json:"check"`
	CheckInterval string   `json:"checkInterval"`
	CheckTimeout  string   `json:"checkTimeout"`

	cmd projections.SetService
}

func (*serviceSpec) fields() string {
	return "name, pool, addresses, family, placement, prefer, check, checkInterval, checkTimeout"
}
func (*serviceSpec) order() int { return 3 }

func (s *serviceSpec) check() (err error) {
	if err := needName("Service", s.Name); err != nil {
		return err
	}
	c := projections.SetService{
		Name: s.Name, Pool: s.Pool, Family: s.Family, Placement: eventlog.Placement(s.Placement), Prefer: s.Prefer,
	}
	for _, text := range s.Addresses {
		var a netip.Addr
		if a, err = parse.Address("addresses", text); err != nil {
			return err
		}
		c.Addresses = append(c.Addresses, a)
	}
	if s.Check == "" && (s.CheckInterval != "" || s.CheckTimeout != "") {
		return &parse.Error{What: "service " + s.Name, Why: "it has times for a check, and no check", Fix: "check: tcp:127.0.0.1:8080"}
	}
	if s.Check != "" {
		if c.Check, err = parse.Check(s.Check); err != nil {
			return err
		}
		if c.Check.Interval, err = checkTime(s.CheckInterval); err != nil {
			return err
		}
		if c.Check.Timeout, err = checkTime(s.CheckTimeout); err != nil {
			return err
		}
	}
	s.cmd = c
	return nil
}

func checkTime(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return parse.Ago(text)
}

func (s *serviceSpec) command([]api.SwitchView) projections.Command { return s.cmd }

func needName(kind, name string) error {
	if strings.TrimSpace(name) == "" {
		return &parse.Error{What: "a " + kind, Why: "its name is missing", Fix: fmt.Sprintf("name: %s-1", strings.ToLower(kind))}
	}
	return nil
}
