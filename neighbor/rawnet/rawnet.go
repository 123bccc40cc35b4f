// Package rawnet opens interfaces for raw frames of ARP and neighbor discovery. It
// belongs to nobody's port: whoever speaks [dyad/neighbor] on a segment uses it.
package rawnet

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"dyad/neighbor"
)

// OpenARP returns a packet socket for ARP on an interface, which does not block.
// Errors: the interface is gone, or no CAP_NET_RAW.
func OpenARP(ifindex int) (fd int, err error) { return open(ifindex, neighbor.EtherTypeARP, nil) }

// OpenND is OpenARP for neighbor solicitations and advertisements. It hears those to
// all groups: questions go to groups that the host may not have joined.
func OpenND(ifindex int) (fd int, err error) {
	if fd, err = open(ifindex, neighbor.EtherTypeIPv6, onlyND); err != nil {
		return -1, err
	}
	err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
		&unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_ALLMULTI})
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("hear all groups: %w", err)
	}
	return fd, nil
}

// onlyND lets neighbor solicitations and advertisements through: next header 58,
// type 135 or 136.
var onlyND = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 20},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 58, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 54},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 135, Jt: 2},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 136, Jt: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
}

func open(ifindex, etherType int, filter []unix.SockFilter) (fd int, err error) {
	// Protocol 0 receives nothing until the socket is bound, filter and all.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w; grant CAP_NET_RAW", err)
	}
	if filter != nil {
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(uint16(etherType)), Ifindex: ifindex})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("bind a packet socket: %w", err)
	}
	return fd, nil
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }
