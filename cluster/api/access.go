package api

import (
	"context"
	"maps"
	"slices"

	"dyad/projections"
)

// Role is what a caller may do.
type Role string

// The roles of people, each including the one before it, and the two of the
// cluster itself: a node may do everything and what only nodes may; a joiner may
// join and nothing else.
const (
	RoleViewer   Role = "viewer"   // reads
	RoleOperator Role = "operator" // changes peers, pools, services, switches; drains; drills
	RoleAdmin    Role = "admin"    // changes who belongs to the cluster
	RoleNode     Role = "node"
	RoleJoiner   Role = "joiner"
)

var ranks = map[Role]int{RoleViewer: 1, RoleOperator: 2, RoleAdmin: 3, RoleNode: 3}

// Roles lists the roles that a person can have, the least first.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleAdmin} }

// ParseRole reads the role of a person.
func ParseRole(s string) (Role, error) {
	if r := Role(s); slices.Contains(Roles(), r) {
		return r, nil
	}
	return "", usage("role", "role "+s, "there is no such role", "use one of: viewer, operator, admin")
}

// may tells whether a caller with role r may do what takes need.
func (r Role) may(need Role) bool {
	if need == RoleNode || need == RoleJoiner {
		return r == need
	}
	return ranks[need] > 0 && ranks[r] >= ranks[need]
}

// routeRoles is what each route takes, by its pattern. A route that is not here
// is closed to everybody.
var routeRoles = map[string]Role{
	"GET " + PathStatus:                 RoleViewer,
	"GET " + PathSwitches:               RoleViewer,
	"GET " + PathPeers:                  RoleViewer,
	"GET " + PathPools:                  RoleViewer,
	"GET " + PathServices:               RoleViewer,
	"GET " + PathNodes:                  RoleViewer,
	"GET " + PathAnnouncements:          RoleViewer,
	"GET " + PathEvents:                 RoleViewer,
	"GET " + PathEventsFollow:           RoleViewer,
	"GET " + PathExplain + "/{address}": RoleViewer,
	"GET " + PathTokens:                 RoleViewer,
	"GET " + PathCertificates:           RoleViewer,
	"POST " + PathCommand:               RoleViewer, // at least; see verbRoles
	"POST " + PathFacts:                 RoleOperator,
	"POST " + PathCertificates:          RoleAdmin,
	"POST " + PathRotate:                RoleAdmin,
	"POST " + PathGossipKeys:            RoleNode,
	"POST " + PathJoin:                  RoleJoiner,
	"GET " + PathWitness:                RoleViewer,
	"GET " + PathVerify:                 RoleViewer,
	"GET " + PathSegments:               RoleViewer,
	"GET " + PathSegments + "/{first}":  RoleViewer,
	"POST " + PathWitness:               RoleAdmin,
	"POST " + PathTakeover:              RoleAdmin,
	"POST " + PathRemoveNode:            RoleAdmin,
	"POST " + PathReplaceNode:           RoleAdmin,
	"POST " + PathRejoin:                RoleNode,
	"GET " + PathDoctor:                 RoleOperator, // it sends packets and writes to the disk
	"POST " + PathProbeRouter:           RoleOperator,
	"POST " + PathTestRoute:             RoleNode,
}

// verbRoles is what each command takes; apply takes what its commands take. A
// verb that is not here is closed to everybody.
var verbRoles = map[string]Role{
	"peer set":       RoleOperator,
	"peer remove":    RoleOperator,
	"pool set":       RoleOperator,
	"pool remove":    RoleOperator,
	"service set":    RoleOperator,
	"service move":   RoleOperator,
	"service remove": RoleOperator,
	"switch set":     RoleOperator,
	"switch remove":  RoleOperator,
	"node drain":     RoleOperator,
	"node undrain":   RoleOperator,
	"node failback":  RoleOperator,
	"node join":      RoleAdmin,
	"node remove":    RoleAdmin,
	"epoch start":    RoleAdmin,
	"witness set":    RoleAdmin,
	"witness remove": RoleAdmin,
	"token create":   RoleAdmin,
	"token revoke":   RoleAdmin,
	"cert revoke":    RoleAdmin,
	verbApply:        RoleOperator,
}

// Denial is an attempt that a caller's role did not allow.
type Denial struct {
	What string // the verb, or the route
	Need Role
}

// authorize is the one place where a role is compared with what it takes.
func authorize(ctx context.Context, b Backend, d Denial) error {
	who := callerOf(ctx)
	if who.Role.may(d.Need) {
		return nil
	}
	if b != nil {
		b.Denied(ctx, who, d)
	}
	have := string(who.Role)
	if have == "" {
		have = "no role"
	}
	fix := "ask an admin of the cluster for a certificate: dyad cert issue NAME --role " + string(d.Need)
	if who.Actor.Auth == AuthUnix {
		fix = "sudo, or have an admin give you the role with access: in the configuration"
	}
	switch d.Need {
	case RoleJoiner:
		fix = "run dyad join on the node that joins, with a token from dyad token create"
	case RoleNode:
		fix = "nodes ask this of each other by themselves; see dyad cert rotate"
	case "":
		d.Need = "nobody has"
	}
	return &Error{
		Class: ClassDenied, Code: "role", What: d.What,
		Why: "it takes the role " + string(d.Need) + ", and " + who.Actor.Name + " (" + who.Actor.Auth + ") has " + have, Fix: fix,
	}
}

// routeNeeds is the role that a route takes.
func routeNeeds(pattern string) Denial { return Denial{What: pattern, Need: routeRoles[pattern]} }

// commandNeeds is the role that a command takes. An apply takes the highest of
// its commands'.
func commandNeeds(c projections.Command) Denial {
	d := Denial{What: c.Verb(), Need: verbRoles[c.Verb()]}
	if a, ok := c.(projections.Apply); ok {
		for _, sub := range a.Commands {
			n := commandNeeds(sub)
			if ranks[n.Need] == 0 || ranks[n.Need] > ranks[d.Need] {
				d = Denial{What: c.Verb() + " of " + n.What, Need: n.Need}
			}
			if ranks[d.Need] == 0 {
				break // closed to everybody
			}
		}
	}
	return d
}

// Access gives callers on the unix socket their roles. Root, and the user that
// the agent runs as, are admins; whoever is not listed is a viewer.
type Access struct {
	// Users go before Groups; of several groups the highest role counts.
	Users, Groups map[string]Role
}

// role is that of a user with these groups.
func (a Access) role(name string, groups []string) Role {
	if r, ok := a.Users[name]; ok {
		return r
	}
	role := RoleViewer
	for _, g := range groups {
		if r, ok := a.Groups[g]; ok && ranks[r] > ranks[role] {
			role = r
		}
	}
	return role
}

// Check tells what is wrong with the roles in a.
func (a Access) Check() error {
	for _, m := range []map[string]Role{a.Users, a.Groups} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if _, err := ParseRole(string(m[name])); err != nil {
				return err
			}
		}
	}
	return nil
}
