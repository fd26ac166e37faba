package exchange

import (
	"net/http"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// Line is the body of an answer of the proxy's own, plain text for people: a stable token, a
// sentence, and maybe a detail.
type Line struct{ Token, Text, Detail string }

// LineOf returns the line for a reason.
func LineOf(r Reason, detail string) Line { return Line{r.String(), r.Text(), detail} }

// LineOfError returns the line for a head that the parser has refused.
func LineOfError(e *message.Error) Line { return Line{BadRequest.String(), e.Text(), e.Reason} }

// Size returns its length in bytes.
func (l Line) Size() int {
	n := len(l.Token) + len(": ") + len(l.Text) + len("\n")
	if l.Detail != "" {
		n += len(" (") + len(l.Detail) + len(")")
	}
	return n
}

// Append appends the line.
func (l Line) Append(dst []byte) []byte {
	dst = append(dst, l.Token...)
	dst = append(dst, ": "...)
	dst = append(dst, l.Text...)
	if l.Detail != "" {
		dst = append(dst, " ("...)
		dst = append(dst, l.Detail...)
		dst = append(dst, ')')
	}
	return append(dst, '\n')
}

// Fields returns the fields that describe the line in an answer with a status.
func (Line) Fields(status int) []message.Added {
	if status == http.StatusServiceUnavailable {
		return lineFields
	}
	return lineFields[:2]
}

var lineFields = []message.Added{
	{Name: "Content-Type", Value: []byte("text/plain; charset=utf-8")},
	{Name: "X-Content-Type-Options", Value: []byte("nosniff")},
	{Name: "Retry-After", Value: []byte("1")},
}
