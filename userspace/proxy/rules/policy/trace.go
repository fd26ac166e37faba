package policy

import (
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// Trace is what a route wants of tracing otherwise than the proxy's settings say.
type Trace struct {
	Enabled bool
	Trust   *bool // nil: as the settings say
	name    template.Template
}

func compileTrace(p *feedpb.Trace) (*Trace, error) {
	if p == nil {
		return nil, nil
	}
	name, err := template.Parse(p.Operation)
	return &Trace{Enabled: p.Enabled == nil || *p.Enabled, Trust: p.Trust, name: name}, err
}

// Name returns what the route wants the span to be called, "" if it does not say.
func (t *Trace) Name(q *Request) string { return string(q.fill(nil, t.name)) }
