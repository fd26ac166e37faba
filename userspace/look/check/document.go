package check

import (
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
)

// Document is a report for people, as Markdown or HTML.
type Document struct {
	Title    string
	Sections []Section
}

// Section is a part of a Document: text, then a table, then what is to be typed.
type Section struct {
	Heading string
	Text    []string
	Columns []string
	Rows    [][]string
	Code    string
}

// Document returns the report with all of its findings.
func (r Report) Document() Document {
	d := Document{Title: "kerngatectl check"}
	d.Sections = append(d.Sections, r.ingressSection(), r.findingSection())
	if len(r.Notes) > 0 {
		d.Sections = append(d.Sections, Section{Heading: "Where ingress-nginx's defaults differ, for every Ingress", Text: r.Notes})
	}
	return d
}

func (r Report) ingressSection() Section {
	s := Section{Heading: "Ingresses", Text: []string{r.Summary() + "."}, Columns: []string{"Ingress", "Outcome", "Place"}}
	for _, i := range r.Ingresses {
		s.Rows = append(s.Rows, []string{i.Name, i.Outcome, place(i.File, i.Line)})
	}
	return s
}

func (r Report) findingSection() Section {
	s := Section{Heading: "Findings", Columns: []string{"Place", "Object", "Level", "Verdict", "Key", "Message"}}
	for _, f := range r.Findings {
		if f.Level != Note {
			s.Rows = append(s.Rows, []string{place(f.File, f.Line), f.Object, string(f.Level), f.Verdict, strings.TrimPrefix(f.Key, ingressnginx.Prefix), f.Message})
		}
	}
	if len(s.Rows) == 0 {
		s.Text = []string{"Everything is served as it is written."}
	}
	return s
}

func place(file string, line int) string { return file + ":" + strconv.Itoa(line) }

// escapes are what Markdown, or HTML within it, would take for more than text.
var escapes = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "|", `\|`,
	"\r", " ", "\n", " ")

// Markdown writes the document. Whatever stands in manifests is text in it.
func (d Document) Markdown(w io.Writer) {
	fmt.Fprintf(w, "# %s\n", escapes.Replace(d.Title))
	for _, s := range d.Sections {
		fmt.Fprintf(w, "\n## %s\n", escapes.Replace(s.Heading))
		if len(s.Text) == 1 {
			fmt.Fprintf(w, "\n%s\n", escapes.Replace(s.Text[0]))
		} else if len(s.Text) > 1 {
			fmt.Fprintln(w)
			for _, t := range s.Text {
				fmt.Fprintf(w, "- %s\n", escapes.Replace(t))
			}
		}
		if len(s.Rows) > 0 {
			fmt.Fprintf(w, "\n| %s |\n|%s\n", strings.Join(s.Columns, " | "), strings.Repeat(" --- |", len(s.Columns)))
			for _, row := range s.Rows {
				cells := make([]string, len(row))
				for i, c := range row {
					cells[i] = escapes.Replace(c)
				}
				fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
			}
		}
		if s.Code != "" {
			fmt.Fprintln(w)
			for line := range strings.SplitSeq(strings.TrimRight(s.Code, "\n"), "\n") {
				fmt.Fprintln(w, strings.TrimRight("    "+line, " "))
			}
		}
	}
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title>
<style>body{font:15px/1.5 sans-serif;margin:2em;max-width:90em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}pre{background:#f4f4f4;padding:1em;overflow:auto}</style>
</head><body><h1>{{.Title}}</h1>
{{range .Sections}}<h2>{{.Heading}}</h2>
{{if .Text}}{{if eq (len .Text) 1}}<p>{{index .Text 0}}</p>{{else}}<ul>{{range .Text}}<li>{{.}}</li>{{end}}</ul>{{end}}{{end}}
{{if .Rows}}<table><tr>{{range .Columns}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table>{{end}}
{{if .Code}}<pre>{{.Code}}</pre>{{end}}
{{end}}</body></html>
`))

// HTML writes the document as one page that needs nothing else.
func (d Document) HTML(w io.Writer) error { return page.Execute(w, d) }
