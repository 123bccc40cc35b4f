package hcs

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"dyad/cluster/api"
	"dyad/eventlog"
)

type pair struct{ name, value string }

// Switches prints switches as Format-List does: names padded to a common width,
// an empty line between two switches.
func Switches(list []api.SwitchView) string {
	var b strings.Builder
	for i, sw := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		fields := switchFields(sw)
		width := 0
		for _, f := range fields {
			width = max(width, len(f.name))
		}
		for _, f := range fields {
			fmt.Fprintf(&b, "%-*s : %s\n", width, f.name, f.value)
		}
	}
	return b.String()
}

func switchFields(sw api.SwitchView) []pair {
	var aliases []string
	team := map[string]int{}
	for _, p := range sw.Ports {
		team[p.Node]++
		name := p.Alias
		if name == "" {
			name = p.Interface
		}
		if !slices.Contains(aliases, name) {
			aliases = append(aliases, name)
		}
	}
	teamed := false
	for _, n := range team {
		teamed = teamed || n > 1
	}
	slices.Sort(aliases)
	return []pair{
		{"Name", sw.Name},
		{"InterfaceAlias", braces(aliases)},
		{"EnableIov", truth(false)},
		{"MacAddressPools", braces(nil)},
		{"IPAddressPools", braces(sw.Pools)},
		{"BGPPeers", braces(texts(sw.Peers))},
		{"ConfigurationSource", "Dsc"},
		{"EnabledForCompute", truth(sw.Compute)},
		{"EnabledForStorage", truth(sw.Storage)},
		{"EnabledForMgmt", truth(sw.Management)},
		{"SupportsAcceleratedNetworking", truth(false)},
		{"DbeDhcpHostVnicName", sw.ID},
		{"VirtualNetworks", braces(nil)},
		{"EnableEmbeddedTeaming", truth(teamed)},
		{"Vnics", braces(nil)},
		{"Type", "External"},
	}
}

func texts(list []netip.Addr) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func braces(list []string) string { return "{" + strings.Join(list, ", ") + "}" }

func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// Peers prints peers as Format-Table does: text left, numbers right, dashes
// under each heading. No peer prints nothing.
func Peers(list []eventlog.Peer) string {
	if len(list) == 0 {
		return ""
	}
	heads := []string{PeerAddress, PeerAsn, SelfAsn, "HoldTime"}
	rows := [][]string{heads, nil}
	for _, h := range heads {
		rows[1] = append(rows[1], strings.Repeat("-", len(h)))
	}
	for _, p := range list {
		rows = append(rows, []string{
			p.Address.String(), strconv.FormatUint(uint64(p.PeerASN), 10), strconv.FormatUint(uint64(p.SelfASN), 10),
			strconv.FormatUint(uint64(p.HoldTime), 10),
		})
	}
	width := make([]int, len(heads))
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		line := fmt.Sprintf("%-*s", width[0], r[0])
		for i, cell := range r[1:] {
			line += fmt.Sprintf("  %*s", width[i+1], cell)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}
