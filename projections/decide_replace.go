package projections

import (
	"cmp"
	"slices"

	"dyad/eventlog"
)

// replaceNode can be repeated, with the same name or another one: what was handed
// to the one before is handed on.
func (f *folder) replaceNode(c ReplaceNode) ([]eventlog.Draft, error) {
	if err := checkName("node", c.With); err != nil {
		return nil, err
	}
	if _, taken := f.s.Nodes[c.With]; taken && c.With != c.Name {
		return nil, refuse("node-exists", "node "+c.With, "give the new machine another name: --with NAME", "it is a node of the cluster already")
	}
	var out []eventlog.Draft
	trial := newFolder(f.s)
	do := func(drafts []eventlog.Draft, err error) error {
		for _, d := range drafts {
			trial.apply(d)
		}
		out = append(out, drafts...)
		return err
	}
	if _, known := f.s.Nodes[c.Name]; known || !f.gone(c.Name) {
		if err := do(f.removeNode(RemoveNode{Name: c.Name, Now: c.Now})); err != nil {
			return nil, err
		}
		alone := StartEpoch{Epoch: f.s.Head.Epoch + 1, Mode: "SOLO", Writers: []string{c.Self}}
		if err := do(f.startEpoch(alone)); err != nil {
			return nil, err
		}
	}
	for _, sw := range sorted(f.s.Switches) {
		now, stripped := sw, trial.s.Switches[sw.Name]
		now.Ports = slices.Clone(sw.Ports)
		for i := range now.Ports {
			if now.Ports[i].Node == c.Name {
				now.Ports[i].Node = c.With
			}
		}
		slices.SortStableFunc(now.Ports, comparePorts)
		if err := do(change(eventlog.TypeSwitchDeclared, "switch/"+sw.Name, now, stripped, true)); err != nil {
			return nil, err
		}
	}
	for _, sv := range sorted(f.s.Services) {
		now := sv
		if sv.Preferred == c.Name {
			now.Preferred = c.With
		}
		if err := do(change(eventlog.TypeServiceSet, "service/"+sv.Name, now, sv, true)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// gone tells whether a node of that name was removed, and none came since.
func (f *folder) gone(name string) bool {
	_, is := f.s.Nodes[name]
	_, was := f.s.Revoked[kindNode+"/"+name]
	return was && !is
}

func comparePorts(a, b eventlog.Port) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Interface, b.Interface))
}
