package neighbor

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

var (
	ours   = MAC{2, 0, 0, 0, 0, 0xa}
	theirs = MAC{2, 0, 0, 0, 0, 0xb}
	ip4    = netip.MustParseAddr("10.126.77.12")
	own4   = netip.MustParseAddr("10.126.77.11")
	ip6    = netip.MustParseAddr("2001:db8:77::12")
	own6   = netip.MustParseAddr("2001:db8:77::11")
)

// The bytes were checked against the RFCs, and the checksums by another program,
// and stay.
func TestGoldenFrames(t *testing.T) {
	for name, tc := range map[string]struct {
		got  []byte
		want string
	}{
		"gratuitous request": {
			AnnounceRequest(ours, ours, ip4),
			"ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000a 0a7e4d0c 000000000000 0a7e4d0c",
		},
		"gratuitous reply": {
			AnnounceReply(ours, ours, ip4),
			"ffffffffffff 02000000000a 0806 0001 0800 06 04 0002 02000000000a 0a7e4d0c ffffffffffff 0a7e4d0c",
		},
		"given back: the owner's MAC inside, ours outside": {
			AnnounceRequest(ours, theirs, ip4),
			"ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000b 0a7e4d0c 000000000000 0a7e4d0c",
		},
		"question to everybody": {
			Question(ours, own4, MAC{}, ip4),
			"ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000a 0a7e4d0b 000000000000 0a7e4d0c",
		},
		"question to one": {
			Question(ours, own4, theirs, ip4),
			"02000000000b 02000000000a 0806 0001 0800 06 04 0001 02000000000a 0a7e4d0b 000000000000 0a7e4d0c",
		},
		"answer": {
			Answer(ours, ours, ip4, theirs, own4),
			"02000000000b 02000000000a 0806 0001 0800 06 04 0002 02000000000a 0a7e4d0c 02000000000b 0a7e4d0b",
		},
		"unsolicited advertisement": {
			AnnounceRequest(ours, ours, ip6),
			"333300000001 02000000000a 86dd 60000000 0020 3a ff 20010db8007700000000000000000012 ff020000000000000000000000000001" +
				" 8800 7811 a0000000 20010db8007700000000000000000012 02 01 02000000000a",
		},
		"solicitation": {
			Question(ours, own6, MAC{}, ip6),
			"3333ff000012 02000000000a 86dd 60000000 0020 3a ff 20010db8007700000000000000000011 ff0200000000000000000001ff000012" +
				" 8700 1b00 00000000 20010db8007700000000000000000012 01 01 02000000000a",
		},
	} {
		want := strings.ReplaceAll(tc.want, " ", "")
		if got := hex.EncodeToString(tc.got); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestWhatIsBuiltIsRead(t *testing.T) {
	for name, tc := range map[string]struct {
		frame []byte
		want  Message
	}{
		"announce 4": {AnnounceReply(ours, theirs, ip4), Message{Claim: true, Address: ip4, MAC: theirs, Source: ours}},
		"announce 6": {AnnounceRequest(ours, theirs, ip6), Message{Claim: true, Address: ip6, MAC: theirs, Source: ours}},
		"question 4": {Question(ours, own4, MAC{}, ip4), Message{Claim: true, Address: own4, MAC: ours, Asks: true, Target: ip4, Source: ours}},
		"question 6": {Question(ours, own6, theirs, ip6), Message{Claim: true, Address: own6, MAC: ours, Asks: true, Target: ip6, Source: ours}},
		"answer 4":   {Answer(ours, ours, ip4, theirs, own4), Message{Claim: true, Address: ip4, MAC: ours, Source: ours}},
		"answer 6":   {Answer(ours, ours, ip6, theirs, own6), Message{Claim: true, Address: ip6, MAC: ours, Source: ours}},
	} {
		if got, ok := Parse(tc.frame); !ok || got != tc.want {
			t.Errorf("%s: %v %+v\nwant %+v", name, ok, got, tc.want)
		}
	}
}

func TestProbeClaimsNothing(t *testing.T) {
	for _, a := range []netip.Addr{ip4, ip6} {
		m, ok := Parse(Probe(ours, a))
		if !ok || m.Claim || !m.Asks || m.Target != a {
			t.Errorf("%s: %v %+v", a, ok, m)
		}
	}
	// RFC 4862 section 5.4.2: no link-layer option, or hosts drop it.
	if n := len(Probe(ours, ip6)); n != MaxFrame-optionLen {
		t.Errorf("a probe of %d bytes", n)
	}
}

// Who probes for an IPv6 address can't be sent anything: everybody is told.
func TestAProbeIsAnsweredToAll(t *testing.T) {
	m, _ := Parse(Probe(theirs, ip6))
	b := Answer(ours, ours, ip6, m.MAC, m.Address)
	if to := MAC(b[:6]); to != multicastMAC(allNodes) || b[headerLen+ipv6Len+4]&flagSolicited != 0 {
		t.Errorf("to %x, flags %x", to, b[headerLen+ipv6Len+4])
	}
}

// A damaged advertisement must not count: its checksum, its hop limit.
func TestDamagedFramesAreRefused(t *testing.T) {
	good := AnnounceRequest(ours, theirs, ip6)
	for i := headerLen + 6; i < len(good); i++ {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x10
		if m, ok := Parse(bad); ok {
			t.Errorf("byte %d: %+v", i, m)
		}
	}
	for n := range good {
		if _, ok := Parse(good[:n]); ok {
			t.Errorf("%d of %d bytes were taken", n, len(good))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(AnnounceRequest(ours, theirs, ip4))
	f.Add(AnnounceRequest(ours, theirs, ip6))
	f.Add(Question(ours, own6, MAC{}, ip6))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := Parse(b)
		if ok && m.Claim && !m.Address.IsValid() {
			t.Errorf("a claim of nothing: %+v", m)
		}
	})
}
