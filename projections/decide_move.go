package projections

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"dyad/eventlog"
)

// moveServices changes nothing but who is preferred, so both nodes go on
// announcing, and forwarding, while the routers change over.
func (f *folder) moveServices(c MoveServices) ([]eventlog.Draft, error) {
	names, err := f.toMove(c)
	if err != nil {
		return nil, err
	}
	var out []eventlog.Draft
	for _, name := range names {
		old := f.s.Services[name]
		now := old
		if now.Preferred, err = f.destination(c.To, old); err != nil {
			return nil, err
		}
		now.Pinned = true
		drafts, err := change(eventlog.TypeServiceSet, "service/"+name, now, old, true)
		if err != nil {
			return nil, err
		}
		out = append(out, drafts...)
	}
	return out, nil
}

// toMove lists the services that c means.
func (f *folder) toMove(c MoveServices) ([]string, error) {
	switch {
	case c.All && len(c.Services) > 0:
		return nil, refuse("services", "service move", "name the services, or ask for all", "it says all, and names some")
	case c.All && c.To == "":
		return nil, refuse("node-missing", "service move", "dyad service move --all --to "+strings.Join(f.s.NodeNames(), "|"),
			"all services can't change places: say where to")
	case c.All:
		standby := func(name string) bool { return f.s.Services[name].Placement != eventlog.ActiveStandby }
		return slices.DeleteFunc(slices.Sorted(maps.Keys(f.s.Services)), standby), nil
	case len(c.Services) == 0:
		return nil, refuse("services", "service move", "dyad service list", "it names no service")
	}
	names := slices.Compact(slices.Sorted(slices.Values(c.Services)))
	for _, name := range names {
		switch old, ok := f.s.Services[name]; {
		case !ok:
			return nil, refuse("service-unknown", fmt.Sprintf("service %q", name), "dyad service list", "there is no such service")
		case old.Placement != eventlog.ActiveStandby:
			return nil, refuse("placement", "service "+name, "dyad service set "+name+" --placement active-standby --prefer NODE",
				"%s uses both nodes alike", old.Placement)
		}
	}
	return names, nil
}

// destination is the node a service moves to.
func (f *folder) destination(to string, old eventlog.Service) (string, error) {
	nodes := f.s.NodeNames()
	if to == "" {
		if to = other(nodes, old.Preferred); to == "" {
			return "", refuse("node-missing", "service "+old.Name, "dyad node list",
				"there is no other node to move it to; there are: %s", strings.Join(nodes, ", "))
		}
	}
	switch {
	case !slices.Contains(nodes, to):
		return "", f.unknownNode(to)
	case f.s.Drained[to]:
		return "", refuse("node-drained", "service "+old.Name, "dyad node undrain "+to, "%s is drained, and carries no traffic", to)
	}
	return to, nil
}

// other is the one of two nodes that name is not; empty if there are not two.
func other(nodes []string, name string) string {
	rest := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == name })
	if len(nodes) != 2 || len(rest) != 1 {
		return ""
	}
	return rest[0]
}
