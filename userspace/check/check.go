// Package check judges manifests by their annotations of ingress-nginx, without a cluster:
// what would be honoured, what with a difference, and what not. In: YAML or JSON documents.
// Out: rows, one for each annotation of each Ingress.
//
// It decodes what it needs of Ingresses itself, so that kerngatectl, which uses it, links
// none of Kubernetes' client. Secrets that annotations name are taken to be there.
package check

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kerngate/kerngate/userspace/ingressnginx"
)

// Row is an annotation and what becomes of it.
type Row struct {
	File    string `json:"file"`
	Line    int    `json:"line"`    // of the document in the file, from 1
	Ingress string `json:"ingress"` // "namespace/name"
	Key     string `json:"annotation"`
	Verdict string `json:"verdict"`
	Message string `json:"message,omitempty"`

	verdict ingressnginx.Verdict
}

// Refused reports whether the annotation's author does not get what was asked for.
func (r Row) Refused() bool { return r.verdict.Refused() }

// Differs reports whether it comes to something else, which the message names.
func (r Row) Differs() bool { return r.verdict == ingressnginx.Difference }

// MaxFile is the size in bytes of the largest file.
const MaxFile = 64 << 20

// object is what is read of a manifest.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Items []object `json:"items"`
}

// File judges the Ingresses of one file. Documents that are no YAML give an error, and the
// rows of the others.
func File(name string, r io.Reader) ([]Row, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, MaxFile>>20)
	}
	var rows []Row
	var errs []error
	for _, d := range split(raw) {
		var o object
		if err := yaml.Unmarshal(d.text, &o); err != nil {
			errs = append(errs, fmt.Errorf("%s, document in line %d: %w", name, d.line, err))
			continue
		}
		for _, one := range append([]object{o}, o.Items...) {
			rows = append(rows, judge(name, d.line, one)...)
		}
	}
	return rows, errors.Join(errs...)
}

func judge(file string, line int, o object) []Row {
	if o.Kind != "Ingress" {
		return nil
	}
	namespace := cmp.Or(o.Metadata.Namespace, "default")
	var rows []Row
	reading := ingressnginx.Read(ingressnginx.Ingress{Namespace: namespace, Name: o.Metadata.Name, Annotations: o.Metadata.Annotations}, nil)
	for _, f := range reading.Findings {
		rows = append(rows, Row{
			File: file, Line: line, Ingress: namespace + "/" + o.Metadata.Name, Key: ingressnginx.Prefix + f.Key,
			Verdict: f.Verdict.String(), Message: f.Message, verdict: f.Verdict,
		})
	}
	return rows
}

// document is one YAML document and the line where it begins.
type document struct {
	text []byte
	line int
}

func split(raw []byte) []document {
	var out []document
	current, number := document{line: 1}, 0
	for line := range bytes.Lines(bytes.TrimPrefix(raw, []byte("\ufeff"))) {
		number++
		if marker := bytes.TrimRight(line, " \t\r\n"); bytes.Equal(marker, []byte("---")) || bytes.HasPrefix(marker, []byte("--- ")) {
			out = append(out, current)
			current = document{line: number + 1}
			continue
		}
		current.text = append(current.text, line...)
	}
	out = append(out, current)
	return slices.DeleteFunc(out, func(d document) bool { return len(bytes.TrimSpace(d.text)) == 0 })
}

// Summary counts rows by verdict, as text.
func Summary(rows []Row) string {
	counts := map[ingressnginx.Verdict]int{}
	ingresses := map[string]bool{}
	for _, r := range rows {
		counts[r.verdict]++
		ingresses[r.Ingress] = true
	}
	parts := []string{}
	for v := ingressnginx.Supported; v <= ingressnginx.Closed; v++ {
		if counts[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[v], v))
		}
	}
	if len(parts) == 0 {
		return "no annotation of ingress-nginx"
	}
	return fmt.Sprintf("%d annotations of %d Ingresses: %s", len(rows), len(ingresses), strings.Join(parts, ", "))
}
