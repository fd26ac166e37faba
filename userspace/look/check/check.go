// Package check judges manifests without a cluster: which Ingresses would be served, and
// what of them not as it is written. In: YAML or JSON files. Out: a Report, with one line
// for each Ingress and a finding, with file and line, for each thing that its author should
// know.
//
// It runs the agent's own translation (userspace/control/kube) over the objects of the files, so that
// both cannot disagree. What objects name and the files lack (Services, Secrets) is taken to
// be in the cluster, and said.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/ingressnginx"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/manifest"
	"github.com/kerngate/kerngate/userspace/model"
)

// Report is what was found in a set of files.
type Report struct {
	Ingresses []Ingress `json:"ingresses"`
	Findings  []Finding `json:"findings"`
	// Notes are about every Ingress: where ingress-nginx's defaults differ.
	Notes []string `json:"notes"`
}

// Outcomes of an Ingress.
const (
	Served    = "served"
	ServedBut = "served, but" // not all of it as it is written
	Closed    = "closed"      // every request is refused with 503
	NotServed = "not served"  // nothing of it is published
)

// Ingress is one Ingress, or annotations of one that stand in another object.
type Ingress struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Name    string `json:"ingress"` // "namespace/name"
	Outcome string `json:"outcome"`
}

// Level says how much a finding matters.
type Level string

// Levels of findings, as in SARIF.
const (
	Error   Level = "error"   // not done as it is written
	Warning Level = "warning" // done, with a difference or on a condition
	Note    Level = "note"    // done as it is written, or nothing to do with Kerngate
)

// Finding is one thing about an object.
type Finding struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // of the file, where the object or its field stands
	Object  string `json:"object"` // "Ingress shop/web"; "" for a file
	Key     string `json:"annotation,omitempty"`
	Verdict string `json:"verdict"` // of an annotation; else the reason of the problem, as events have it
	Level   Level  `json:"level"`
	Message string `json:"message,omitempty"`
}

// Refused reports whether something is not done as it is written.
func (r Report) Refused() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Level == Error })
}

// Checker gathers files and judges them together.
type Checker struct {
	options kube.Options
	placed  []placed
	found   []Finding
	failed  []Ingress // that could not even be read

	controllers []controllerArgs
}

// placed is an object and where it stands.
type placed struct {
	kube.Object
	file  string
	lines lines
	item  string
	field string // annotations stand here and not in an Ingress; "": it is one
}

// Options of a check: what the agent is to be told.
type Options struct {
	// Class is the IngressClass whose Ingresses are judged; "": all.
	Class string
	// IngressNginx is the ConfigMap of ingress-nginx's controller that the agent is to read,
	// "namespace/name". "": none.
	IngressNginx string
}

// New returns a Checker.
func New(o Options) *Checker {
	return &Checker{options: kube.Options{Class: o.Class, IngressNginx: o.IngressNginx}}
}

// Add reads one file. An error is about the file; what can be used of it is judged.
func (c *Checker) Add(name string, r io.Reader) error {
	raw, err := manifest.Read(name, r)
	if err != nil {
		return err
	}
	documents, err := manifest.Split(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var errs []error
	for _, d := range documents {
		errs = append(errs, c.addDocument(name, d))
	}
	return errors.Join(errs...)
}

func (c *Checker) addDocument(file string, d manifest.Document) error {
	text, variables := fillVariables(d.Text)
	where := newLines(text, d.Line)
	decoded := kube.DecodeAll(text)
	c.controllers = append(c.controllers, where.controllers()...)
	if isTemplate(text) && slices.ContainsFunc(decoded, func(o kube.Decoded) bool { return o.Err != nil }) {
		c.found = append(c.found, Finding{File: file, Line: d.Line, Verdict: "Template", Level: Error,
			Message: "this is a template: {{ }} must be filled in before it can be judged: helm template CHART | kerngatectl check -"})
		return nil
	}
	if len(variables) > 0 {
		c.found = append(c.found, Finding{File: file, Line: d.Line, Verdict: "Variable", Level: Warning,
			Message: strings.Join(variables, ", ") + ": variables are judged by their default or by a name of their own; fill them in for a certain result (envsubst, flux build)"})
	}
	var errs []error
	ingresses := false
	for _, o := range decoded {
		line := where.of(o.Item, "metadata", "name")
		for _, w := range o.Warnings {
			c.found = append(c.found, Finding{File: file, Line: line, Object: refText(o.Ref), Verdict: "ManifestWarning", Level: Warning, Message: d.MoveLines(w)})
		}
		switch {
		case o.Err != nil && o.Ref.Kind == "Ingress":
			c.failed = append(c.failed, Ingress{File: file, Line: line, Name: cmp.Or(o.Ref.Namespace, "default") + "/" + o.Ref.Name, Outcome: NotServed})
			fallthrough
		case o.Err != nil && o.Ref.Kind != "":
			c.found = append(c.found, Finding{File: file, Line: line, Object: refText(o.Ref), Verdict: "ManifestInvalid", Level: Error, Message: d.MoveLines(o.Err.Error())})
		case o.Err != nil && o.Item != "":
			errs = append(errs, fmt.Errorf("%s:%d, %s: %s", file, where.of(o.Item), o.Item, d.MoveLines(o.Err.Error())))
		case o.Err != nil && len(where.annotated()) == 0:
			errs = append(errs, fmt.Errorf("%s, document in line %d: %s", file, d.Line, d.MoveLines(o.Err.Error())))
		case o.Used:
			c.placed = append(c.placed, placed{Object: o.Object, file: file, lines: where, item: o.Item})
		}
		ingresses = ingresses || o.Ref.Kind == "Ingress"
	}
	if !ingresses {
		c.addElsewhere(file, where, decoded)
	}
	return errors.Join(errs...)
}

// addElsewhere finds annotations that do not stand in an Ingress: in the values of a chart,
// a HelmRelease or a patch.
func (c *Checker) addElsewhere(file string, where lines, decoded []kube.Decoded) {
	owner, namespace := "values", ""
	if len(decoded) == 1 && decoded[0].Ref.Kind != "" {
		owner, namespace = decoded[0].Ref.Kind+" "+decoded[0].Ref.Name, decoded[0].Ref.Namespace
	}
	for _, at := range where.annotated() {
		o := kube.AnnotatedIngress(namespace, fmt.Sprintf("%s:%s", owner, at.field), at.values)
		c.placed = append(c.placed, placed{Object: o, file: file, lines: where, field: at.field})
	}
}

// Report judges all that was added.
func (c *Checker) Report() Report {
	r := Report{Ingresses: slices.Clone(c.failed), Findings: slices.Clone(c.found), Notes: []string{}}
	for _, set := range c.sets() {
		c.judge(set, &r)
	}
	slices.SortStableFunc(r.Ingresses, func(a, b Ingress) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Message, b.Message))
	})
	r.Findings = slices.Compact(r.Findings)
	if len(r.Ingresses) > 0 {
		r.Notes = append(r.Notes, defaults...)
	}
	if r.Ingresses == nil {
		r.Ingresses = []Ingress{}
	}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	return r
}

// sets returns the objects in sets in which no object is twice: the overlays of one
// application (staging, production) hold the same names and are judged apart. All sets share
// what they do not have themselves.
func (c *Checker) sets() [][]placed {
	var sets [][]placed
	count := map[model.ObjectRef]int{}
	for _, p := range c.placed {
		n := count[p.Ref]
		count[p.Ref]++
		if n == len(sets) {
			sets = append(sets, nil)
		}
		sets[n] = append(sets[n], p)
	}
	for i := 1; i < len(sets); i++ {
		for _, p := range sets[0] {
			if p.Ref.Kind != "Ingress" && count[p.Ref] <= i {
				sets[i] = append(sets[i], p)
			}
		}
	}
	return sets
}

func (c *Checker) judge(set []placed, r *Report) {
	objects := make([]kube.Object, len(set))
	byRef := map[model.ObjectRef]placed{}
	read := false
	for i, p := range set {
		objects[i], byRef[p.Ref] = p.Object, p
		named := p.Ref.Kind == "ConfigMap" && cmp.Or(p.Ref.Namespace, "default")+"/"+p.Ref.Name == c.options.IngressNginx
		read = read || named
		r.Findings = append(r.Findings, configMap(p, named)...)
	}
	o := c.options
	if !read {
		o.IngressNginx = "" // it must be in the cluster, and nothing is known of it
		if c.options.IngressNginx != "" && len(set) > 0 {
			r.Findings = append(r.Findings, Finding{File: set[0].file, Line: 1, Verdict: kube.ReasonAbsent, Level: Warning,
				Message: "ConfigMap " + c.options.IngressNginx + " is not in these manifests; it must be in the cluster"})
		}
	}
	judged, rest := kube.Judge(objects, o)
	for _, j := range judged {
		p := set[j.Index]
		findings := append(p.annotations(j), p.problems(j.Problems)...)
		findings = append(findings, p.otherControllers()...)
		r.Findings = append(r.Findings, findings...)
		r.Ingresses = append(r.Ingresses, Ingress{File: p.file, Line: p.line("metadata", "name"), Name: j.Ref.Namespace + "/" + j.Ref.Name, Outcome: outcome(j, findings)})
	}
	for _, problem := range rest {
		if p, ok := byRef[problem.Object]; ok {
			r.Findings = append(r.Findings, p.problems([]model.Problem{problem})...)
		}
	}
}

func outcome(j kube.Judgement, findings []Finding) string {
	switch {
	case j.Routes == 0:
		return NotServed
	case j.Closed == j.Routes:
		return Closed
	case slices.ContainsFunc(findings, func(f Finding) bool { return f.Level == Error || f.Level == Warning && f.Verdict != kube.ReasonAbsent }):
		return ServedBut
	}
	return Served
}

// line returns the line of the file where a field of the object stands.
func (p placed) line(path ...string) int {
	if p.field != "" {
		return p.lines.of("", append(strings.Split(p.field, "."), path[min(2, len(path)):]...)...)
	}
	return p.lines.of(p.item, path...)
}

func (p placed) object() string { return refText(p.Ref) }

func refText(ref model.ObjectRef) string {
	switch {
	case ref.Kind == "":
		return ""
	case ref.Kind == "IngressClass":
		return ref.Kind + " " + ref.Name
	}
	return ref.Kind + " " + cmp.Or(ref.Namespace, "default") + "/" + ref.Name
}

// annotations are the findings about annotations of ingress-nginx.
func (p placed) annotations(j kube.Judgement) (out []Finding) {
	for _, f := range j.Findings {
		if f.Setting != "" {
			out = append(out, Finding{File: p.file, Line: p.line("metadata", "name"), Object: p.object(), Verdict: "AccessClosed", Level: Error, Message: f.Text()})
			continue
		}
		key := ingressnginx.Prefix + f.Key
		if slices.ContainsFunc(j.Problems, func(problem model.Problem) bool { return keyOf(problem.Message) == key }) {
			continue // the problem says it of this value
		}
		level := Error
		switch f.Verdict {
		case ingressnginx.Supported:
			level = Note
		case ingressnginx.Difference:
			level = Warning
		}
		out = append(out, Finding{File: p.file, Line: p.line("metadata", "annotations", key), Object: p.object(),
			Key: key, Verdict: f.Verdict.String(), Level: level, Message: f.Message})
	}
	return out
}

// annotationVerdicts are the verdicts on annotations that package kube reads.
var annotationVerdicts = map[string]ingressnginx.Verdict{
	"AnnotationInvalid": ingressnginx.Invalid, "AnnotationUnsupported": ingressnginx.Unsupported,
}

// problems are the findings about all else.
func (p placed) problems(problems []model.Problem) (out []Finding) {
	for _, problem := range problems {
		f := Finding{File: p.file, Object: p.object(), Verdict: problem.Reason, Level: Error, Message: problem.Message}
		if problem.Reason == "SettingElsewhere" || problem.Reason == "SettingUnsupported" {
			continue // configMap says it
		}
		if problem.Reason == kube.ReasonAbsent || problem.Reason == "AnnotationDiffers" {
			f.Level = Warning
		}
		if f.Key = keyOf(problem.Message); f.Key != "" {
			f.Line = p.line("metadata", "annotations", f.Key)
			if v, ok := annotationVerdicts[problem.Reason]; ok {
				f.Verdict = v.String()
			}
			if problem.Reason == "AnnotationIneffective" && strings.HasPrefix(f.Key, ingressnginx.Prefix+"auth-tls-") {
				f.Level = Warning // in ingress-nginx, too, they have no effect without auth-tls-secret
			}
			f.Message = strings.TrimPrefix(f.Message, "annotation "+f.Key+": ")
		} else {
			f.Line = p.line(fieldOf(problem.Message)...)
			if rest, ok := strings.CutPrefix(problem.Message, "data["); ok {
				f.Key, f.Message, _ = strings.Cut(rest, "]: ")
				f.Line = p.line("data", f.Key)
			}
		}
		out = append(out, f)
	}
	return out
}

// keyOf returns the annotation that a message is about, "" for none.
func keyOf(message string) string {
	rest, ok := strings.CutPrefix(message, "annotation ")
	if !ok {
		return ""
	}
	key, _, _ := strings.Cut(rest, ": ")
	return key
}

// fieldOf returns the field that a message begins with: "spec.rules[0].host: ...".
func fieldOf(message string) []string {
	field, _, ok := strings.Cut(message, ":")
	if !ok || !strings.HasPrefix(field, "spec.") || strings.ContainsAny(field, " /") {
		return []string{"metadata", "name"}
	}
	return strings.Split(field, ".")
}
