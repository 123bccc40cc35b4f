package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// Column is one column of a table of T.
type Column[T any] struct {
	Head  string
	Value func(T) string
	// Wide columns only show with -o wide.
	Wide bool
	// Right aligns numbers.
	Right bool
}

// List is how a list of T is printed.
type List[T any] struct {
	Columns []Column[T]
	// Name is what -o name prints for an item.
	Name func(T) string
	// Empty goes to stderr if there is nothing to list, as the command that
	// would change that.
	Empty string
}

// Print prints items as --output asks: a table, {"items": […]}, or names.
func (l List[T]) Print(e *Env, items []T) error {
	switch e.Output {
	case JSON, YAML:
		if items == nil {
			items = []T{}
		}
		return e.Document(map[string]any{"items": items})
	case Name:
		for _, it := range items {
			if err := e.Line("%s", Clean(l.Name(it))); err != nil {
				return err
			}
		}
		return nil
	}
	if len(items) == 0 {
		e.Note("%s", l.Empty)
		return nil
	}
	var columns []Column[T]
	for _, c := range l.Columns {
		if !c.Wide || e.Output == Wide {
			columns = append(columns, c)
		}
	}
	rows := make([][]string, len(items)+1)
	right := make([]bool, len(columns))
	for i, c := range columns {
		rows[0], right[i] = append(rows[0], c.Head), c.Right
		for n, it := range items {
			rows[n+1] = append(rows[n+1], c.Value(it))
		}
	}
	return e.Rows(rows, right)
}

// Rows prints rows aligned in columns; the first row is the header. Cells never
// contain line breaks: control characters are shown escaped, so that no name or
// reason from the log can draw on a terminal.
func (e *Env) Rows(rows [][]string, right []bool) error {
	var width []int
	for _, r := range rows {
		for i := range r {
			r[i] = Clean(r[i])
			if r[i] == "" {
				r[i] = "-"
			}
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	var out bytes.Buffer
	for n, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if i < len(right) && right[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 && e.Terminal {
			text = "\x1b[1m" + text + "\x1b[0m"
		}
		out.WriteString(text + "\n")
	}
	_, err := e.Out.Write(out.Bytes())
	return err
}

// Field is one line of [Env.Fields].
type Field struct{ Name, Value string }

// Fields prints one object as "name  value" lines, names padded. Empty values
// are left out.
func (e *Env) Fields(fields []Field) error {
	width := 0
	for _, f := range fields {
		width = max(width, utf8.RuneCountInString(f.Name))
	}
	for _, f := range fields {
		if f.Value == "" {
			continue
		}
		if err := e.Line("%-*s  %s", width, f.Name, Clean(f.Value)); err != nil {
			return err
		}
	}
	return nil
}

// Show prints one object: v with -o json and yaml, name with -o name, and the
// fields otherwise.
func (e *Env) Show(v any, name string, fields []Field) error {
	switch e.Output {
	case JSON, YAML:
		return e.Document(v)
	case Name:
		return e.Line("%s", name)
	}
	return e.Fields(fields)
}

// Document prints v as JSON or YAML, as --output asks.
func (e *Env) Document(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	out := b.Bytes()
	if e.Output == YAML {
		var err error
		if out, err = yaml.JSONToYAML(out); err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
	}
	_, err := e.Out.Write(out)
	return err
}

// Line prints one line of the answer.
func (e *Env) Line(layout string, args ...any) error {
	_, err := fmt.Fprintf(e.Out, layout+"\n", args...)
	return err
}

// Note prints one line to stderr. An empty one is not printed.
func (e *Env) Note(layout string, args ...any) {
	if s := fmt.Sprintf(layout, args...); s != "" {
		_, _ = io.WriteString(e.Err, s+"\n") // a note that can't be written is no failure
	}
}

// Time shows an instant: relative on a terminal, else RFC 3339.
func (e *Env) Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if !e.Terminal {
		return t.UTC().Format(time.RFC3339Nano)
	}
	d := e.Now().Sub(t)
	switch {
	case d < 0:
		return t.Local().Format(time.DateTime)
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s ago"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m ago"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h ago"
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d ago"
}

// Clean escapes control characters and invalid UTF-8.
func Clean(s string) string {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

// YesNo words a truth.
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
