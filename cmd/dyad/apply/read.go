package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"dyad/cluster/api"
	"dyad/cmd/dyad/parse"
)

// Bounds of one file.
const (
	// MaxBytes bounds a file.
	MaxBytes = 1 << 20
	// MaxDocuments bounds the documents of one file.
	MaxDocuments = api.MaxCommands
)

// document is one YAML document of a file.
type document struct {
	number int // from 1, empty ones not counted
	line   int // of its first line in the file, from 1
	text   string
}

// where says where a line of the document is.
func (d document) where(file string, line int) string {
	return fmt.Sprintf("%s, document %d, line %d", file, d.number, d.line+line-1)
}

// split cuts a file at its --- lines. Documents without content are left out.
func split(text string) []document {
	var out []document
	var part []string
	start := 1
	flush := func(next int) {
		body := strings.Join(part, "\n")
		if hasContent(part) {
			out = append(out, document{number: len(out) + 1, line: start, text: body})
		}
		part, start = nil, next
	}
	for i, l := range strings.Split(text, "\n") {
		if l == "---" || strings.HasPrefix(l, "--- ") || l == "---\r" {
			flush(i + 2)
			continue
		}
		part = append(part, l)
	}
	flush(0)
	return out
}

func hasContent(lines []string) bool {
	for _, l := range lines {
		if t := strings.TrimSpace(l); t != "" && !strings.HasPrefix(t, "#") {
			return true
		}
	}
	return false
}

// Read reads a file: YAML documents, or JSON, which is YAML. It is strict; an
// error is a *parse.Error that names the document and the line.
func Read(file, text string) ([]Item, error) {
	if len(text) > MaxBytes {
		return nil, &parse.Error{What: file, Why: "it is larger than 1 MiB", Fix: "split it into several files"}
	}
	docs := split(text)
	switch {
	case len(docs) == 0:
		return nil, &parse.Error{What: file, Why: "it holds no document", Fix: "kind: Peer, Pool, Service or Switch; see dyad apply --help"}
	case len(docs) > MaxDocuments:
		return nil, &parse.Error{What: file, Why: fmt.Sprintf("it holds %d documents, more than %d", len(docs), MaxDocuments), Fix: "split it into several files"}
	}
	var out []Item
	for _, d := range docs {
		it, err := d.read(file)
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

func (d document) read(file string) (Item, error) {
	raw, err := yaml.YAMLToJSONStrict([]byte(d.text))
	if err != nil {
		line, why := d.yamlError(err)
		return Item{}, &parse.Error{What: d.where(file, line), Why: why, Fix: "correct the line; dyad apply --help shows an example"}
	}
	var head struct {
		Kind string `json:"kind"`
	}
	if len(raw) == 0 || raw[0] != '{' {
		return Item{}, &parse.Error{What: d.where(file, 1), Why: "it is not a document with fields", Fix: "kind: Peer, Pool, Service or Switch"}
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return Item{}, &parse.Error{What: d.where(file, d.lineOf("kind")), Why: "its kind is not a word", Fix: "kind: Peer, Pool, Service or Switch"}
	}
	make, ok := kinds[head.Kind]
	if !ok {
		why := fmt.Sprintf("there is no kind %q", head.Kind)
		if head.Kind == "" {
			why = "the kind is missing"
		}
		return Item{}, &parse.Error{What: d.where(file, d.lineOf("kind")), Why: why, Fix: "kind: Peer, Pool, Service or Switch"}
	}
	spec := make()
	if err := decode(raw, spec); err != nil {
		field, why := fieldError(err)
		return Item{}, &parse.Error{What: d.where(file, d.lineOf(field)), Why: why, Fix: "a " + head.Kind + " has: " + spec.fields()}
	}
	it := Item{Where: fmt.Sprintf("%s, document %d", file, d.number), spec: spec}
	if err := spec.check(); err != nil {
		var e *parse.Error
		if errors.As(err, &e) {
			err = &parse.Error{What: it.Where + ": " + e.What, Why: e.Why, Fix: e.Fix}
		}
		return Item{}, err
	}
	return it, nil
}

func decode(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

var (
	yamlLine = regexp.MustCompile(`line (\d+): ?`)
	yamlKey  = regexp.MustCompile(`key "([^"]+)" already set`)
)

// yamlError finds the line that a YAML error names, and drops the words that
// only programmers know.
func (d document) yamlError(err error) (line int, why string) {
	line, why = 1, strings.TrimSpace(err.Error())
	if m := yamlLine.FindStringSubmatch(why); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits by the expression
		why = strings.Replace(why, m[0], "", 1)
	}
	for _, p := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors:", "\n"} {
		why = strings.ReplaceAll(why, p, "")
	}
	if m := yamlKey.FindStringSubmatch(why); m != nil {
		why = fmt.Sprintf("the field %q stands twice", m[1])
	}
	return max(line, 1), "it is not YAML: " + strings.TrimSpace(why)
}

// lineOf finds the line of a field in the document; 1 if it isn't there.
func (d document) lineOf(field string) int {
	if field == "" {
		return 1
	}
	for i, l := range strings.Split(d.text, "\n") {
		t := strings.TrimLeft(l, " \t-{,")
		if strings.HasPrefix(t, field+":") || strings.Contains(l, strconv.Quote(field)+":") || strings.Contains(l, strconv.Quote(field)+" :") {
			return i + 1
		}
	}
	return 1
}

// fieldError names the field an error is about, and says why in plain words.
func fieldError(err error) (field, why string) {
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		name := typed.Field
		return name[strings.LastIndex(name, ".")+1:], fmt.Sprintf("%s can't be a %s", name, typed.Value)
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if name, ok := strings.CutPrefix(text, "unknown field "); ok {
		name = strings.Trim(name, `"`)
		return name, fmt.Sprintf("there is no field %q", name)
	}
	return "", text
}
