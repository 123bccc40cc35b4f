package lab

import (
	"fmt"
	"os"
	"time"

	"sigs.k8s.io/yaml"

	"dyad/chaos/netlab"
	"dyad/cluster/config"
)

// FailbackDelay of a lab's nodes is shorter than an installation's 10 s, and
// does not grow with each death: a lab's nodes die often.
const FailbackDelay = 2 * time.Second

// Configure changes the configuration of the node of that name.
type Configure func(node string, c *config.Config)

// Reconfigure writes a node's configuration anew. The agent reads it at its next
// start.
func (l *Lab) Reconfigure(name string, configure Configure) error {
	n, err := l.Node(name)
	if err != nil {
		return err
	}
	return l.writeConfig(n, configure)
}

// writeConfig writes the agent's configuration of one node.
func (l *Lab) writeConfig(n Node, configure Configure) error {
	c := config.Default()
	c.Node, c.Socket, c.DataDir = n.Name, n.Socket, n.Dir+"/data"
	c.Address = l.Plan.ClusterAddr[n.Name]
	c.RouterID = l.Plan.NodePeer[n.Name]
	c.Switches = []config.Switch{
		{Name: l.Plan.SwitchName, Interface: netlab.PortRouter, Alias: l.Plan.Alias, Compute: true, Management: true},
		{Name: "vSwitch2", Interface: netlab.PortCluster, Alias: "Port5", Storage: true},
	}
	c.Failover.FailbackDelay = config.Duration(FailbackDelay)
	c.Failover.FailbackMax = config.Duration(FailbackDelay)
	c.Failover.FlapWindow = config.Duration(time.Second)
	c.Speaker.ConnectRetry = config.Duration(time.Second)
	if configure != nil {
		configure(n.Name, &c)
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the configuration of %s: %w", n.Name, err)
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data directory of %s: %w", n.Name, err)
	}
	if err := os.WriteFile(n.Config, b, 0o644); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", n.Name, err)
	}
	return nil
}
