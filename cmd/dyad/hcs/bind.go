package hcs

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"dyad/cmd/dyad/parse"
)

// The names of the cmdlets.
const (
	GetSwitch  = "Get-HcsExternalVirtualSwitch"
	SetPeer    = "Set-HcsBGPPeer"
	GetPeers   = "Get-HcsBGPPeers"
	RemovePeer = "Remove-HcsBGPPeer"
)

// The names of the parameters.
const (
	PeerAddress = "PeerAddress"
	PeerAsn     = "PeerAsn"
	SelfAsn     = "SelfAsn"
	SwitchName  = "SwitchName"
	HoldTime    = "HoldTimeInSeconds"
)

type param struct {
	name, kind string // kind is .NET's
	mandatory  bool
}

type cmdlet struct {
	name   string
	params []param
}

var (
	addressParam = param{PeerAddress, "System.String", true}
	switchParam  = param{SwitchName, "System.String", true}
)

// cmdlets are all there are, in the order a new user needs them.
var cmdlets = []cmdlet{
	{GetSwitch, nil},
	{SetPeer, []param{
		addressParam, {PeerAsn, "System.Int64", true}, {SelfAsn, "System.Int64", true}, switchParam, {HoldTime, "System.Int64", false},
	}},
	{GetPeers, []param{switchParam}},
	{RemovePeer, []param{addressParam, switchParam}},
}

// Call is a cmdlet with the values of its parameters, under their full names.
type Call struct {
	Cmdlet string
	Values map[string]string
}

// Names lists the cmdlets.
func Names() []string {
	var out []string
	for _, c := range cmdlets {
		out = append(out, c.name)
	}
	return out
}

// Params lists the parameters of a cmdlet, with their dash.
func Params(name string) []string {
	c, _ := find(name)
	var out []string
	for _, p := range c.params {
		out = append(out, "-"+p.name)
	}
	return out
}

func find(name string) (cmdlet, bool) {
	i := slices.IndexFunc(cmdlets, func(c cmdlet) bool { return strings.EqualFold(c.name, name) })
	if i < 0 {
		return cmdlet{}, false
	}
	return cmdlets[i], true
}

// Bind reads a cmdlet and its parameters as PowerShell does: names in any case,
// parameters by any prefix that is not ambiguous, the value in the next word or
// behind a colon. Errors are *parse.Error in PowerShell's words.
func Bind(args []string) (Call, error) {
	if len(args) == 0 {
		return Call{}, &parse.Error{What: "dyad hcs", Why: "the cmdlet is missing; there are: " + strings.Join(Names(), ", "), Fix: "dyad hcs " + GetSwitch}
	}
	c, ok := find(args[0])
	if !ok {
		return Call{}, &parse.Error{
			What: "dyad hcs",
			Why: fmt.Sprintf("The term '%s' is not recognized as the name of a cmdlet, function, script file, or operable program.",
				args[0]),
			Fix: strings.Join(Names(), ", "),
		}
	}
	call := Call{Cmdlet: c.name, Values: map[string]string{}}
	for i := 1; i < len(args); i++ {
		word, value, colon := paramWord(args[i])
		if word == "" {
			return Call{}, c.fail("A positional parameter cannot be found that accepts argument '%s'.", args[i])
		}
		p, err := c.param(word)
		if err != nil {
			return Call{}, err
		}
		if _, twice := call.Values[p.name]; twice {
			return Call{}, c.fail("Cannot bind parameter because parameter '%s' is specified more than once.", p.name)
		}
		if !colon || value == "" {
			if i++; i >= len(args) || isParam(args[i]) {
				return Call{}, c.fail("Missing an argument for parameter '%s'. Specify a parameter of type '%s' and try again.", p.name, p.kind)
			}
			value = args[i]
		}
		if strings.TrimSpace(value) == "" {
			return Call{}, c.fail("Cannot bind argument to parameter '%s' because it is an empty string.", p.name)
		}
		call.Values[p.name] = value
	}
	return call, c.missing(call)
}

// paramWord splits "-Name" and "-Name:value". Dashes that word processors make
// of a hyphen count as one, as in PowerShell.
func paramWord(s string) (word, value string, colon bool) {
	if !isParam(s) {
		return "", "", false
	}
	_, n := utf8.DecodeRuneInString(s)
	return cut3(strings.Cut(s[n:], ":"))
}

func cut3(a, b string, ok bool) (string, string, bool) { return a, b, ok }

// isParam tells a parameter from a value: -1 is a number.
func isParam(s string) bool {
	dash, n := utf8.DecodeRuneInString(s)
	if !strings.ContainsRune("-–—―", dash) {
		return false
	}
	first, _ := utf8.DecodeRuneInString(s[n:])
	return unicode.IsLetter(first) || first == '_' || first == '-'
}

// param finds a parameter by its name or a prefix of it.
func (c cmdlet) param(word string) (param, error) {
	var found []param
	for _, p := range c.params {
		if strings.EqualFold(p.name, word) {
			return p, nil
		}
		if len(word) <= len(p.name) && strings.EqualFold(p.name[:len(word)], word) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return param{}, c.fail("A parameter cannot be found that matches parameter name '%s'.", word)
	case 1:
		return found[0], nil
	}
	var possible strings.Builder
	for _, p := range found {
		possible.WriteString(" -" + p.name)
	}
	return param{}, c.fail("Parameter cannot be processed because the parameter name '%s' is ambiguous. Possible matches include:%s.",
		word, possible.String())
}

func (c cmdlet) missing(call Call) error {
	var out []string
	for _, p := range c.params {
		if _, ok := call.Values[p.name]; p.mandatory && !ok {
			out = append(out, p.name)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return c.fail("Cannot process command because of one or more missing mandatory parameters: %s.", strings.Join(out, " "))
}

func (c cmdlet) fail(why string, args ...any) error {
	return &parse.Error{What: c.name, Why: fmt.Sprintf(why, args...), Fix: "dyad hcs " + c.syntax()}
}

// syntax is the cmdlet's line in Get-Help's notation.
func (c cmdlet) syntax() string {
	var b strings.Builder
	b.WriteString(c.name)
	for _, p := range c.params {
		word := fmt.Sprintf("-%s <%s>", p.name, strings.TrimPrefix(p.kind, "System."))
		if !p.mandatory {
			word = "[" + word + "]"
		}
		b.WriteString(" " + word)
	}
	return b.String()
}
