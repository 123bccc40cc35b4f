package hostcheck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dyad/cluster"
	"dyad/cluster/api"
)

// Bounds of the check for black holes.
const (
	echoBound = 400 * time.Millisecond // for one answer
	echoTries = 3
	smallEcho = 64 // bytes of data
	// Headers before the data of an echo request: IP and ICMP.
	headers4 = 20 + 8
	headers6 = 40 + 8
	readSize = 64 << 10
)

// Message types of echo (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// fullSize tells whether packets as large as the interface sends arrive and are
// answered, unfragmented. A path that drops them without a word, a black hole,
// lets sessions come up and then hang.
func fullSize(ctx context.Context, n cluster.Neighbor) api.Finding {
	f := api.Finding{Code: "mtu", Subject: n.Name, Result: api.ResultUnknown}
	mtu, err := mtuOf(n)
	if err != nil {
		f.Text = err.Error()
		return f
	}
	e, err := openEcho(n)
	if err != nil {
		f.Text, f.Fix = "no echo request can be sent: "+err.Error(), "CAP_NET_RAW for the agent, as in the service file"
		return f
	}
	defer e.close()
	small, err := e.answered(ctx, smallEcho)
	if err != nil || !small {
		f.Text = fmt.Sprintf("can't tell: %s does not answer echo requests", n.Address)
		if err != nil {
			f.Text += ": " + err.Error()
		}
		return f
	}
	head := headers4
	if !n.Address.Is4() {
		head = headers6
	}
	large, err := e.answered(ctx, mtu-head)
	switch {
	case err != nil:
		f.Result, f.Text = api.ResultProblem, fmt.Sprintf("a packet of %d bytes is not sent: %v", mtu, err)
	case !large:
		f.Result, f.Text = api.ResultProblem, fmt.Sprintf("small packets are answered, those of %d bytes are not: something on the way drops them without a word", mtu)
	default:
		f.Result, f.Text = api.ResultOK, fmt.Sprintf("packets of %d bytes pass unfragmented", mtu)
		return f
	}
	f.Fix = "the same MTU on the interfaces of both ends, and on what is between them"
	return f
}

// mtuOf is the MTU of the interface that a neighbor is reached by.
func mtuOf(n cluster.Neighbor) (int, error) {
	if n.Interface != "" {
		i, err := net.InterfaceByName(n.Interface)
		if err != nil {
			return 0, fmt.Errorf("there is no interface %s", n.Interface)
		}
		return i.MTU, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, i := range all {
		if slices.ContainsFunc(prefixes(&i), func(p netip.Prefix) bool { return p.Addr() == n.Own }) {
			return i.MTU, nil
		}
	}
	return 0, fmt.Errorf("no interface has the address %s", n.Own)
}

// echo sends echo requests to one address and hears the answers.
type echo struct {
	conn *net.IPConn
	to   netip.Addr
	id   uint16
	seq  uint16
}

func openEcho(n cluster.Neighbor) (*echo, error) {
	network := "ip4:icmp"
	if !n.Address.Is4() {
		network = "ip6:ipv6-icmp"
	}
	conn, err := net.DialIP(network, &net.IPAddr{IP: n.Own.AsSlice()}, &net.IPAddr{IP: n.Address.AsSlice()})
	if err != nil {
		return nil, err
	}
	if err := dontFragment(conn, n.Address.Is4()); err != nil {
		_ = conn.Close() // the option is what failed
		return nil, err
	}
	return &echo{conn: conn, to: n.Address, id: uint16(rand.Uint32())}, nil
}

// dontFragment sets DF, and leaves out what the kernel learned of the path.
func dontFragment(conn *net.IPConn, v4 bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		if v4 {
			serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			return
		}
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	})
	return errors.Join(err, serr)
}

func (e *echo) close() { _ = e.conn.Close() }

// answered tells whether an echo request with that much data is answered. The
// first may be lost to a neighbor that is not resolved yet.
func (e *echo) answered(ctx context.Context, size int) (bool, error) {
	for range echoTries {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		e.seq++
		if _, err := e.conn.Write(e.request(size)); err != nil {
			return false, err
		}
		if e.await(time.Now().Add(echoBound), size) {
			return true, nil
		}
	}
	return false, nil
}

func (e *echo) request(size int) []byte {
	b := make([]byte, 8+size)
	b[0] = echoRequest4
	if !e.to.Is4() {
		b[0] = echoRequest6 // the kernel fills in the checksum
	}
	binary.BigEndian.PutUint16(b[4:], e.id)
	binary.BigEndian.PutUint16(b[6:], e.seq)
	if e.to.Is4() {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// await reads until the answer of the last request comes, or until then.
func (e *echo) await(until time.Time, size int) bool {
	b := make([]byte, readSize)
	if err := e.conn.SetReadDeadline(until); err != nil {
		return false
	}
	for {
		// Unlike Read, this takes the header of an IPv4 packet off.
		n, _, err := e.conn.ReadFromIP(b)
		var again *net.OpError
		if errors.As(err, &again) && !again.Timeout() && time.Now().Before(until) {
			continue // an ICMP error about an earlier one
		}
		if err != nil {
			return false
		}
		if e.mine(b[:n], size) {
			return true
		}
	}
}

func (e *echo) mine(b []byte, size int) bool {
	reply := byte(echoReply4)
	if !e.to.Is4() {
		reply = echoReply6
	}
	return len(b) == 8+size && b[0] == reply &&
		binary.BigEndian.Uint16(b[4:]) == e.id && binary.BigEndian.Uint16(b[6:]) == e.seq
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
