package gobgp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"dyad/speaker"
)

// Bounds of a probe.
const (
	probeTimeout = 3 * time.Second  // of one attempt
	probeTries   = 4                // a router that just refused somebody may be deaf for a while
	probePause   = 2 * time.Second  // between attempts
	probeEvery   = 20 * time.Second // at most one probe of a peer
	probeReads   = 8                // messages read at most
)

// finding is what a probe saw.
type finding struct {
	asn     uint32        // of the router's OPEN; 0 if it sent none
	refusal *notification // the router's NOTIFICATION
	silent  bool          // closed, or said nothing to the point
}

// probeLocked asks the router why it refuses this node. GoBGP keeps the
// NOTIFICATION that ends a session in the making to itself, and that is just
// the one the operator must know: a wrong ASN, mostly. So the same OPEN is sent
// once more on a connection of our own, which never becomes a session, while
// GoBGP idles. The caller holds mu.
func (s *Speaker) probeLocked(n *neighbor) {
	if s.closed || s.engine == nil || time.Since(n.probed) < probeEvery {
		return
	}
	n.probed = time.Now()
	id := s.engine.routerID
	s.wg.Go(func() {
		for try := range probeTries {
			if try > 0 {
				select {
				case <-time.After(probePause):
				case <-s.ctx.Done():
					return
				}
			}
			if s.probeOnce(n, id) {
				return
			}
		}
	})
}

// probeOnce makes one attempt and tells whether it was the last one needed.
func (s *Speaker) probeOnce(n *neighbor, id netip.Addr) (done bool) {
	ctx, cancel := context.WithTimeout(s.ctx, probeTimeout)
	defer cancel()
	if !s.needsProbe(n) {
		return true
	}
	f, err := s.probe(ctx, n.conf, id)
	if err != nil {
		s.opts.Log.Debug("asking the router why was in vain", "event", "speaker.probe", "reason", err.Error(), "peer", n.conf.Address)
		return false
	}
	why := ""
	switch refused := f.refusal != nil; {
	case f.asn != 0 && f.asn != n.conf.PeerASN:
		why = notification{code: bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, subcode: bgp.BGP_ERROR_SUB_BAD_PEER_AS}.sent(n.conf, f.asn)
		if refused && f.refusal.code == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR {
			why += "; and " + f.refusal.received(n.conf)
		}
	case refused:
		why = f.refusal.received(n.conf)
	default:
		return !f.silent
	}
	if s.needsProbe(n) {
		s.mu.Lock()
		n.explain(why)
		s.mu.Unlock()
	}
	return true
}

// needsProbe tells whether the session is still neither up nor close to it.
func (s *Speaker) needsProbe(n *neighbor) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && s.peers[n.conf.Address] == n &&
		n.session.State != speaker.Established && n.session.State != speaker.OpenConfirm
}

func (s *Speaker) probe(ctx context.Context, p speaker.Peer, routerID netip.Addr) (finding, error) {
	var f finding
	d := net.Dialer{}
	if a := s.opts.localFor(p.Address.Is4()); a.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(p.Address, s.opts.RemotePort).String())
	if err != nil {
		return f, errors.New(connectErr(p, s.opts.RemotePort, err))
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer func() {
		stop()
		_ = conn.Close()
	}()
	open, err := openMessage(p, s.opts.families(p), routerID)
	if err != nil {
		return f, err
	}
	if _, err := conn.Write(open); err != nil {
		return f, err
	}
	for range probeReads {
		m, err := readMessage(conn)
		if err != nil {
			f.silent = true
			return f, nil
		}
		switch body := m.Body.(type) {
		case *bgp.BGPOpen:
			f.asn = asnOf(body)
		case *bgp.BGPNotification:
			f.refusal = &notification{code: body.ErrorCode, subcode: body.ErrorSubcode}
			return f, nil
		case *bgp.BGPKeepAlive:
			// It accepts us after all. This is no session: say goodbye.
			bye, err := bgp.NewBGPNotificationMessage(bgp.BGP_ERROR_CEASE, bgp.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION, nil).Serialize()
			if err == nil {
				_, err = conn.Write(bye)
			}
			return f, err
		}
	}
	return f, nil
}

func openMessage(p speaker.Peer, families []bgp.Family, routerID netip.Addr) ([]byte, error) {
	caps := []bgp.ParameterCapabilityInterface{bgp.NewCapFourOctetASNumber(p.SelfASN), bgp.NewCapRouteRefresh()}
	for _, f := range families {
		caps = append(caps, bgp.NewCapMultiProtocol(f))
	}
	as := uint16(bgp.AS_TRANS)
	if p.SelfASN <= 65535 {
		as = uint16(p.SelfASN)
	}
	m, err := bgp.NewBGPOpenMessage(as, proposed(p), routerID, []bgp.OptionParameterInterface{bgp.NewOptionParameterCapability(caps)})
	if err != nil {
		return nil, err
	}
	return m.Serialize()
}

func readMessage(r io.Reader) (*bgp.BGPMessage, error) {
	head := make([]byte, bgp.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[16:18]))
	if n < bgp.BGP_HEADER_LENGTH || n > bgp.BGP_MAX_MESSAGE_LENGTH {
		return nil, errors.New("not a BGP message")
	}
	msg := append(head, make([]byte, n-bgp.BGP_HEADER_LENGTH)...)
	if _, err := io.ReadFull(r, msg[bgp.BGP_HEADER_LENGTH:]); err != nil {
		return nil, err
	}
	return bgp.ParseBGPMessage(msg)
}

func asnOf(o *bgp.BGPOpen) uint32 {
	for _, p := range o.OptParams {
		if caps, ok := p.(*bgp.OptionParameterCapability); ok {
			for _, c := range caps.Capability {
				if four, ok := c.(*bgp.CapFourOctetASNumber); ok {
					return four.CapValue
				}
			}
		}
	}
	return uint32(o.MyAS)
}
