package layer2

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// settings are what an interface must have so that the kernel does not answer for,
// or speak as, an address that is on another one. The kernel takes the larger of
// the interface's value and that of all.
var settings = []struct {
	name string
	min  int
	why  string
}{
	{"arp_ignore", 1, "this node answers ARP for service addresses that are not its own to answer for"},
	{"arp_announce", 2, "this node may ask in the name of a service address, and draw its traffic"},
}

// settle makes the settings of an interface right, and says what it could not.
func settle(iface string) (trouble []string) {
	for _, s := range settings {
		if max(readSetting("all", s.name), readSetting(iface, s.name)) >= s.min {
			continue
		}
		if err := os.WriteFile(settingPath(iface, s.name), []byte(strconv.Itoa(s.min)), 0o644); err != nil {
			trouble = append(trouble, fmt.Sprintf("%s on %s is less than %d, so %s; try: sysctl -w net.ipv4.conf.all.%s=%d", s.name, iface, s.min, s.why, s.name, s.min))
		}
	}
	return trouble
}

func settingPath(iface, name string) string {
	return "/proc/sys/net/ipv4/conf/" + iface + "/" + name
}

func readSetting(iface, name string) int {
	b, err := os.ReadFile(settingPath(iface, name))
	if err != nil {
		return 0
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return v
}
