package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
)

// Outcome is what the client gets in a case that differs from the explained one in
// something that is not known of the request.
type Outcome struct {
	When     string `json:"when"`
	Reason   string `json:"reason"`
	Status   int    `json:"status,omitempty"`
	Location string `json:"location,omitempty"`
	Summary  string `json:"summary,omitempty"`
}

// text says what the client gets.
func (o *Outcome) text() string {
	switch {
	case o.Summary != "":
		return o.Summary
	case o.Location != "":
		return fmt.Sprintf("%d from the proxy, Location: %s", o.Status, o.Location)
	}
	return fmt.Sprintf("%d from the proxy", o.Status)
}

// otherwise notes an outcome, unless the request does not get so far.
func (w *walk) otherwise(o Outcome) {
	if w.out.Answer.Reason == "" {
		w.others = append(w.others, o)
	}
}

// complete adds to the answer what it depends on, and which page takes its place.
func (w *walk) complete(p *model.Policy) {
	a := &w.out.Answer
	for i := range w.others {
		w.others[i].Summary = w.paged(p, w.others[i].Reason, w.others[i].Status, w.others[i].text())
	}
	a.Summary = w.paged(p, a.Reason, a.Status, a.Summary)
	a.Otherwise = append(w.others, a.Otherwise...)
	q := w.asked
	if q == nil {
		return
	}
	for i := range q.outcomes {
		q.outcomes[i].Summary = w.paged(p, q.outcomes[i].Reason, q.outcomes[i].Status, q.outcomes[i].text())
	}
	*a = Answer{
		Reason:    reasonDepends,
		Summary:   fmt.Sprintf("depends on what %s answers; with 2xx: %s", q.url, a.Summary),
		Otherwise: append(slices.Clone(a.Otherwise), q.outcomes...),
		Next:      strings.TrimPrefix(strings.Join([]string{a.Next, "explain --auth-status N shows what the client gets after an answer with status N"}, "; "), "; "),
	}
}

// paged adds to what is said of an error that another service answers in its place.
func (w *walk) paged(p *model.Policy, reason string, status int, summary string) string {
	if w.grpc && status >= 300 {
		return summary + "; over HTTP/2, as the pods speak gRPC: 200 with the error in grpc-status"
	}
	if p == nil || p.ErrorPages == nil || !slices.Contains(p.ErrorPages.Status, status) || reason == reasonRule || reason == reasonForwarded {
		return summary
	}
	return fmt.Sprintf("%s; the answer of %s to X-Code: %d takes its place (custom-http-errors)", summary, p.ErrorPages.Service, status)
}
