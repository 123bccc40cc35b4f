package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// sizeofNhmsg is the size of struct nhmsg (linux/nexthop.h).
const sizeofNhmsg = 8

// nhmsg is struct nhmsg with all fields zero, which means any.
type nhmsg struct{}

func (nhmsg) Len() int          { return sizeofNhmsg }
func (nhmsg) Serialize() []byte { return make([]byte, sizeofNhmsg) }

// flushNextHops removes every next-hop object of the namespace. FRR makes them,
// and a killed zebra leaves them; routes that use one go with it.
func flushNextHops(ns string) error {
	return Do(ns, func() error {
		list := nl.NewNetlinkRequest(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP)
		list.AddData(nhmsg{})
		msgs, err := list.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEXTHOP)
		if err != nil {
			return fmt.Errorf("list next-hop objects: %w", err)
		}
		for _, id := range nextHopIDs(msgs) {
			req := nl.NewNetlinkRequest(unix.RTM_DELNEXTHOP, unix.NLM_F_ACK)
			req.AddData(nhmsg{})
			req.AddData(nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id)))
			_, err := req.Execute(unix.NETLINK_ROUTE, 0)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove next-hop object %d: %w", id, err)
			}
		}
		return nil
	})
}

func nextHopIDs(msgs [][]byte) []uint32 {
	var out []uint32
	for _, m := range msgs {
		if len(m) < sizeofNhmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[sizeofNhmsg:])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NHA_ID && len(a.Value) == 4 {
				out = append(out, binary.NativeEndian.Uint32(a.Value))
			}
		}
	}
	return out
}
