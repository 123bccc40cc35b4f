package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"dyad/eventlog"
	"dyad/projections"
)

// MaxCommands bounds how many commands one apply carries. Each leads to at
// least one event where it changes something, and a batch holds no more.
const MaxCommands = eventlog.MaxBatch

// verbApply is the one verb whose args hold other commands.
var verbApply = projections.Apply{}.Verb()

// decoders is the table of all verbs but apply.
var decoders = map[string]func(verb string, args []byte) (projections.Command, error){
	projections.SetPeer{}.Verb():            decodeInto[projections.SetPeer],
	projections.RemovePeer{}.Verb():         decodeInto[projections.RemovePeer],
	projections.SetPool{}.Verb():            decodeInto[projections.SetPool],
	projections.RemovePool{}.Verb():         decodeInto[projections.RemovePool],
	projections.SetService{}.Verb():         decodeInto[projections.SetService],
	projections.MoveServices{}.Verb():       decodeInto[projections.MoveServices],
	projections.RemoveService{}.Verb():      decodeInto[projections.RemoveService],
	projections.DeclareSwitch{}.Verb():      decodeInto[projections.DeclareSwitch],
	projections.RemoveSwitch{}.Verb():       decodeInto[projections.RemoveSwitch],
	projections.JoinNode{}.Verb():           decodeInto[projections.JoinNode],
	projections.RemoveNode{}.Verb():         decodeInto[projections.RemoveNode],
	projections.StartEpoch{}.Verb():         decodeInto[projections.StartEpoch],
	projections.SetWitness{}.Verb():         decodeInto[projections.SetWitness],
	projections.RemoveWitness{}.Verb():      decodeInto[projections.RemoveWitness],
	projections.CreateToken{}.Verb():        decodeInto[projections.CreateToken],
	projections.RevokeToken{}.Verb():        decodeInto[projections.RevokeToken],
	projections.RevokeCertificate{}.Verb():  decodeInto[projections.RevokeCertificate],
	projections.FailBack{}.Verb():           decodeInto[projections.FailBack],
	projections.DrainNode{On: true}.Verb():  decodeDrain,
	projections.DrainNode{On: false}.Verb(): decodeDrain,
}

// wireCommand is one command inside an apply.
type wireCommand struct {
	Verb string          `json:"verb"`
	Args json.RawMessage `json:"args"`
}

type wireApply struct {
	Commands []wireCommand `json:"commands"`
}

// Verbs lists every verb that [DecodeCommand] knows, sorted.
func Verbs() []string {
	return slices.Sorted(maps.Keys(verbSet()))
}

func verbSet() map[string]bool {
	out := map[string]bool{verbApply: true}
	for v := range decoders {
		out[v] = true
	}
	return out
}

// DecodeCommand reads a command from the wire. It is strict: an unknown verb,
// an unknown field, anything behind the object and an apply inside an apply are
// *[Error] of class usage. The args of apply are
// {"commands": [{"verb": …, "args": …}, …]}, at most [MaxCommands].
//
// Invariant: DecodeCommand(EncodeCommand(c)) is c.
func DecodeCommand(verb string, args json.RawMessage) (projections.Command, error) {
	if verb == verbApply {
		return decodeApply(args)
	}
	return decodeOne(verb, args)
}

func decodeOne(verb string, args json.RawMessage) (projections.Command, error) {
	dec, ok := decoders[verb]
	if !ok {
		return nil, usage("verb-unknown", fmt.Sprintf("command %q", verb), "there is no such command",
			"use one of: "+strings.Join(Verbs(), ", "))
	}
	return dec(verb, args)
}

func decodeApply(args json.RawMessage) (projections.Command, error) {
	var w wireApply
	if err := strict(verbApply, args, &w); err != nil {
		return nil, err
	}
	if n := len(w.Commands); n > MaxCommands {
		return nil, usage("apply-too-large", verbApply, fmt.Sprintf("it has %d commands; one apply carries at most %d", n, MaxCommands),
			"split it into several")
	}
	var out projections.Apply
	if w.Commands != nil {
		out.Commands = make([]projections.Command, 0, len(w.Commands))
	}
	for i, c := range w.Commands {
		if c.Verb == verbApply {
			return nil, usage("apply-nested", fmt.Sprintf("apply, command %d", i+1), "an apply can't hold another apply",
				"put all commands into one list")
		}
		cmd, err := decodeOne(c.Verb, c.Args)
		if err != nil {
			var e *Error
			if errors.As(err, &e) {
				in := *e
				in.What = fmt.Sprintf("apply, command %d: %s", i+1, e.What)
				return nil, &in
			}
			return nil, err
		}
		out.Commands = append(out.Commands, cmd)
	}
	return out, nil
}

func decodeInto[C projections.Command](verb string, args []byte) (projections.Command, error) {
	var c C
	if err := strict(verb, args, &c); err != nil {
		return nil, err
	}
	return c, nil
}

// decodeDrain reads both directions. The verb says which one; an "on" that says
// otherwise is refused, a missing one is not.
func decodeDrain(verb string, args []byte) (projections.Command, error) {
	var w struct {
		Node string `json:"node"`
		On   *bool  `json:"on"`
	}
	if err := strict(verb, args, &w); err != nil {
		return nil, err
	}
	c := projections.DrainNode{Node: w.Node, On: verb == projections.DrainNode{On: true}.Verb()}
	if w.On != nil && *w.On != c.On {
		return nil, usage("args", verb, fmt.Sprintf(`"on" is %t, which is the opposite of the verb`, *w.On), `leave "on" out`)
	}
	return c, nil
}

// EncodeCommand gives a command its form on the wire. The error is of class
// usage: an apply inside an apply, or no command at all.
func EncodeCommand(c projections.Command) (verb string, args json.RawMessage, err error) {
	switch c := c.(type) {
	case nil:
		return "", nil, usage("verb-unknown", "no command", "there is nothing to send", "")
	case projections.Apply:
		args, err = encodeApply(c)
		return c.Verb(), args, err
	}
	if _, ok := decoders[c.Verb()]; !ok {
		return "", nil, usage("verb-unknown", fmt.Sprintf("command %q", c.Verb()), "there is no such command", "")
	}
	args, err = json.Marshal(c)
	if err != nil {
		return "", nil, usage("args", c.Verb(), err.Error(), "")
	}
	return c.Verb(), args, nil
}

func encodeApply(c projections.Apply) (json.RawMessage, error) {
	var w wireApply
	if c.Commands != nil {
		w.Commands = make([]wireCommand, 0, len(c.Commands))
	}
	for i, sub := range c.Commands {
		if _, nested := sub.(projections.Apply); nested {
			return nil, usage("apply-nested", fmt.Sprintf("apply, command %d", i+1), "an apply can't hold another apply",
				"put all commands into one list")
		}
		verb, args, err := EncodeCommand(sub)
		if err != nil {
			return nil, err
		}
		w.Commands = append(w.Commands, wireCommand{Verb: verb, Args: args})
	}
	return json.Marshal(w)
}

// strict reads exactly one JSON object into v.
func strict(verb string, args []byte, v any) error {
	fix := "see docs/openapi.json, or dyad help"
	trimmed := bytes.TrimSpace(args)
	if len(trimmed) == 0 {
		return usage("args", verb, "it comes without args", `send an object, such as {"name": "web"}`)
	}
	if trimmed[0] != '{' {
		return usage("args", verb, "its args are not a JSON object", `send an object, such as {"name": "web"}`)
	}
	dec := json.NewDecoder(bytes.NewReader(trimmed))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return usage("args", verb, worded(err), fix)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return usage("args", verb, "something follows its args", "send one object and nothing behind it")
	}
	return nil
}

// worded says what is wrong with JSON in words an operator knows.
func worded(err error) string {
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typed):
		return fmt.Sprintf("%q can't be a %s", typed.Field, typed.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "its args end in the middle"
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if name, ok := strings.CutPrefix(text, "unknown field "); ok {
		return "there is no field " + name
	}
	return text
}

func usage(code, what, why, fix string) *Error {
	return &Error{Class: ClassUsage, Code: code, What: what, Why: why, Fix: fix}
}
