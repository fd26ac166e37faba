// Package logformat reads how lines of the access log are to look. In: "json", "combined" or
// a text with fields in braces, such as "{client} {status}". Out: its parts. Both planes link
// it: the agent to say at once what is wrong with a text, the proxy to write lines.
package logformat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// JSON is the name of the format that has no template.
const JSON = "json"

// combined is the format of that name, as nginx and Apache write it. User names are not logged.
const combined = `{client} - - [{time_combined}] "{method} {target} {proto}" {status} {bytes_out} "{field_referer}" "{field_user-agent}"`

// Field is a value of a request that has ended.
type Field uint8

// Literal is the text of the template itself; the others are described in Fields.
const (
	Literal Field = iota
	Time
	TimeCombined
	Client
	Peer
	Method
	Host
	Path
	Query
	Target
	Proto
	Status
	Reason
	Detail
	GRPCStatus
	BytesIn
	BytesOut
	Duration
	FirstByte
	Upstream
	Tries
	Service
	Ingress
	RouteKind
	RequestID
	TraceID
	SpanID
	RequestField
)

// Fields lists what may stand in braces, with what it means.
var Fields = []struct {
	Field      Field
	Name, Text string
}{
	{Time, "time", "of the request's head, UTC, RFC 3339"},
	{TimeCombined, "time_combined", "the same as nginx and Apache write it, to the second"},
	{Client, "client", "address of the client"},
	{Peer, "peer", "address and port of the other end of the connection"},
	{Method, "method", "as sent"},
	{Host, "host", "as sent, with its port"},
	{Path, "path", "as sent"},
	{Query, "query", "as sent, without the question mark"},
	{Target, "target", "path and query as sent"},
	{Proto, "proto", "HTTP/1.1 and so on; TLS for what is passed through"},
	{Status, "status", "of the response"},
	{Reason, "reason", "why the request ended"},
	{Detail, "detail", "more about the reason"},
	{GRPCStatus, "grpc_status", "of a call of gRPC"},
	{BytesIn, "bytes_in", "of the request's body"},
	{BytesOut, "bytes_out", "of the response"},
	{Duration, "duration_us", "from the request's head to the end of its response, microseconds"},
	{FirstByte, "first_byte_us", "from the request's head to the pod's first byte, microseconds"},
	{Upstream, "upstream", "address and port of the last pod"},
	{Tries, "tries", "pods that were asked"},
	{Service, "service", "namespace/name:port"},
	{Ingress, "ingress", "namespace/name of the Ingress, or of the object of another kind"},
	{RouteKind, "route_kind", "kind of that object"},
	{RequestID, "request_id", "the X-Request-ID that the pod got"},
	{TraceID, "trace_id", "of the trace that the request belongs to, if requests are traced"},
	{SpanID, "span_id", "of the proxy's own span in it"},
	{RequestField, "field_NAME", "the request's field of that name, the first one"},
}

// Part is a piece of a line.
type Part struct {
	Field  Field
	Text   string // of Literal; of RequestField the name in lower case
	Quoted bool   // it stands between double quotes
}

// Format is how a line looks. nil: JSON.
type Format struct {
	Parts []Part
	// Escape are the bytes that are escaped in values outside of quotes: those by which a
	// reader could take the line apart.
	Escape [256]bool
}

const (
	maxLength = 4096
	maxParts  = 64
)

// secret are fields that would bring credentials into the log.
var secret = []string{"authorization", "proxy-authorization", "cookie"}

// Parse reads a format; "" is JSON.
func Parse(text string) (*Format, error) {
	switch {
	case text == "" || text == JSON:
		return nil, nil
	case text == "combined":
		text = combined
	case len(text) > maxLength:
		return nil, fmt.Errorf("access log format: %d bytes are more than %d", len(text), maxLength)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }):
		return nil, errors.New("access log format: only printable ASCII and tabs may stand in it")
	case !strings.Contains(text, "{"):
		return nil, fmt.Errorf("access log format %q: want json, combined or a text with fields such as {client} {status}", text)
	}
	f := &Format{}
	f.Escape[' '], f.Escape['"'], f.Escape['\\'] = true, true, true
	quoted := false
	for rest := text; rest != ""; {
		literal, after, found := strings.Cut(rest, "{")
		if literal != "" {
			f.Parts = append(f.Parts, Part{Text: literal})
			quoted = quoted != (strings.Count(literal, `"`)%2 == 1)
			for _, c := range []byte(literal) {
				if !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z') {
					f.Escape[c] = true
				}
			}
		}
		if !found {
			break
		}
		name, next, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("access log format: {%s has no }", name)
		}
		part, err := field(name)
		if err != nil {
			return nil, err
		}
		part.Quoted = quoted
		f.Parts = append(f.Parts, part)
		rest = next
	}
	if quoted {
		return nil, errors.New("access log format: a double quote is missing")
	}
	if len(f.Parts) > maxParts {
		return nil, fmt.Errorf("access log format: %d parts are more than %d", len(f.Parts), maxParts)
	}
	return f, nil
}

func field(name string) (Part, error) {
	if of, found := strings.CutPrefix(name, "field_"); found {
		of = strings.ToLower(of)
		switch {
		case of == "" || strings.ContainsFunc(of, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_') }):
			return Part{}, fmt.Errorf("access log format: %q is not the name of a field", of)
		case slices.Contains(secret, of):
			return Part{}, fmt.Errorf("access log format: %s holds credentials, and is not logged", of)
		}
		return Part{Field: RequestField, Text: of}, nil
	}
	for _, known := range Fields {
		if known.Name == name && known.Field != RequestField {
			return Part{Field: known.Field}, nil
		}
	}
	return Part{}, fmt.Errorf("access log format: there is no field {%s}", name)
}
