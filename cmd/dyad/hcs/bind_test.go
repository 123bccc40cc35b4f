package hcs

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dyad/cmd/dyad/parse"
)

func TestBind(t *testing.T) {
	full := map[string]string{PeerAddress: "10.0.0.1", PeerAsn: "1", SelfAsn: "2", SwitchName: "vSwitch1"}
	for _, c := range []struct {
		line, cmdlet string
		values       map[string]string
		says         string
	}{
		{"Get-HcsExternalVirtualSwitch", GetSwitch, map[string]string{}, ""},
		{"GET-HCSEXTERNALVIRTUALSWITCH", GetSwitch, map[string]string{}, ""},
		{"Set-HcsBGPPeer -PeerAddress 10.0.0.1 -PeerAsn 1 -SelfAsn 2 -SwitchName vSwitch1", SetPeer, full, ""},
		{"set-hcsbgppeer -SWITCHNAME vSwitch1 -selfasn:2 -PeerAs: 1 -peerad:10.0.0.1", SetPeer, full, ""},
		{"Set-HcsBGPPeer —PeerAddress 10.0.0.1 –PeerAsn 1 ―Se 2 -Sw vSwitch1", SetPeer, full, ""},
		{"Get-HcsBGPPeers -s a:b", GetPeers, map[string]string{SwitchName: "a:b"}, ""},
		{"Get-HcsBGPPeers -s:a:b", GetPeers, map[string]string{SwitchName: "a:b"}, ""},
		{"Set-HcsBGPPeer -PeerAddress ::1 -PeerAsn -1 -SelfAsn 2 -SwitchName x", SetPeer, map[string]string{
			PeerAddress: "::1", PeerAsn: "-1", SelfAsn: "2", SwitchName: "x",
		}, ""},
		{"", "", nil, "the cmdlet is missing"},
		{"Get-HcsBGPPeer -SwitchName x", "", nil, "not recognized"},
		{"Set-HcsBGPPeer -S x", "", nil, "'S' is ambiguous. Possible matches include: -SelfAsn -SwitchName."},
		{"Set-HcsBGPPeer -PeerAddresses x", "", nil, "A parameter cannot be found that matches parameter name 'PeerAddresses'."},
		{"Get-HcsBGPPeers --SwitchName x", "", nil, "A parameter cannot be found that matches parameter name '-SwitchName'."},
		{"Get-HcsBGPPeers -SwitchName x -switchname y", "", nil, "'SwitchName' is specified more than once"},
		{"Set-HcsBGPPeer -PeerAsn -SelfAsn 1", "", nil, "Missing an argument for parameter 'PeerAsn'. Specify a parameter of type 'System.Int64'"},
		{"Get-HcsBGPPeers -SwitchName:", "", nil, "Missing an argument for parameter 'SwitchName'"},
		{"Get-HcsBGPPeers -", "", nil, "A positional parameter cannot be found that accepts argument '-'."},
		{"Get-HcsExternalVirtualSwitch x", "", nil, "A positional parameter cannot be found that accepts argument 'x'."},
		{"Remove-HcsBGPPeer", "", nil, "missing mandatory parameters: PeerAddress SwitchName."},
	} {
		call, err := Bind(strings.Fields(c.line))
		if c.says != "" {
			var e *parse.Error
			if !errors.As(err, &e) || !strings.Contains(e.Why, c.says) || e.Fix == "" {
				t.Errorf("%q: got %v, want %q and a fix", c.line, err, c.says)
			}
			continue
		}
		if err != nil || call.Cmdlet != c.cmdlet || !reflect.DeepEqual(call.Values, c.values) {
			t.Errorf("%q: got %+v, %v", c.line, call, err)
		}
	}
	if _, err := Bind([]string{GetPeers, "-SwitchName", " "}); err == nil || !strings.Contains(err.Error(), "empty string") {
		t.Errorf("an empty value: %v", err)
	}
}

// Whatever is typed gets a call or an error with a fix.
func TestBindAnswersEverything(t *testing.T) {
	word := rapid.OneOf(rapid.SampledFrom(append(Names(), Params(SetPeer)...)), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(word, 0, 8).Draw(t, "args")
		call, err := Bind(args)
		var e *parse.Error
		if err != nil && (!errors.As(err, &e) || e.Fix == "") {
			t.Fatalf("%q: %v", args, err)
		}
		if err == nil && (call.Cmdlet == SetPeer || call.Cmdlet == RemovePeer) {
			_, _ = Command(call) // must not panic
		}
	})
}
