// Package hcs understands the edge appliance's four cmdlets as its users type
// them: PowerShell's rules for names and parameters, and the output they know.
//
//	dyad hcs Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1
//
// The binder and the renderers are pure; the commands go through the same rules
// and the same log as dyad peer.
package hcs
