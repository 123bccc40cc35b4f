package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// socketBuffer is asked for on every socket, in bytes: what arrives while the
// process does not run must wait, not get lost.
const socketBuffer = 4 << 20

// Echo answers probes on every address of the host, IPv4 and IPv6, until ctx
// ends. name, at most 64 bytes, is added to each answer.
//
// A socket bound to the wildcard would answer from the interface's address;
// the answer must come from the address that was asked, or a client will not
// take it. So each answer names its source (IP_PKTINFO, IPV6_PKTINFO).
func Echo(ctx context.Context, port uint16, name string) error {
	if len(name) > maxName {
		return fmt.Errorf("name of the echo responder has %d bytes, at most %d fit", len(name), maxName)
	}
	var conns []*net.UDPConn
	for _, network := range []string{"udp4", "udp6"} {
		c, err := listenEcho(network, port)
		if err != nil {
			if network == "udp6" && len(conns) > 0 && errors.Is(err, unix.EAFNOSUPPORT) {
				continue // a host without IPv6
			}
			return errors.Join(err, closeAll(conns))
		}
		conns = append(conns, c)
	}
	defer context.AfterFunc(ctx, func() { _ = closeAll(conns) })()
	var wg sync.WaitGroup
	errs := make([]error, len(conns))
	for i, c := range conns {
		wg.Go(func() { errs[i] = answer(c, []byte(name)) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(append(errs, closeAll(conns))...)
}

func closeAll(conns []*net.UDPConn) error {
	var errs []error
	for _, c := range conns {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func listenEcho(network string, port uint16) (*net.UDPConn, error) {
	c, err := net.ListenUDP(network, &net.UDPAddr{Port: int(port)})
	if err != nil {
		return nil, fmt.Errorf("listen on %s port %d: %w", network, port, err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		growBuffers(int(fd))
		if network == "udp4" {
			opt = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			opt = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	if err = errors.Join(err, opt); err != nil {
		return nil, errors.Join(fmt.Errorf("packet information: %w", err), c.Close())
	}
	return c, nil
}

// growBuffers asks for large buffers; without the right to, for what is allowed.
func growBuffers(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
}

func answer(c *net.UDPConn, name []byte) error {
	buf, oob := make([]byte, maxPacket), make([]byte, 128)
	for {
		n, on, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if _, _, err := parse(buf[:n]); err != nil {
			continue
		}
		source, ok := sourceOf(oob[:on])
		if !ok {
			continue
		}
		out := append(buf[:probeSize:probeSize], name...)
		if _, _, err := c.WriteMsgUDPAddrPort(out, source, from); err != nil && !errors.Is(err, net.ErrClosed) {
			// The way back may be gone for a moment: the probe is lost then,
			// which is what the prober wants to know.
			slog.Debug("answer not sent", "event", "echo-failed", "reason", err.Error())
		}
	}
}

// sourceOf turns the packet information of a received packet into that of its
// answer: from the address it was sent to, by whichever interface routing says.
func sourceOf(oob []byte) ([]byte, bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, false
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: ifindex, spec_dst, addr; addr is the destination.
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[8:12])}), true
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			info := unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])}
			if netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
				info.Ifindex = binary.NativeEndian.Uint32(m.Data[16:20])
			}
			return unix.PktInfo6(&info), true
		}
	}
	return nil, false
}
