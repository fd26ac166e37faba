package route

import (
	"bytes"
	"fmt"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Request is what Conditions ask of a request.
type Request interface {
	// Secure reports whether the request came by a connection with TLS.
	Secure() bool
	// Method returns the method as it was sent.
	Method() []byte
	// Header returns the value of a header by its name in lower case, several joined by commas as
	// RFC 9110 section 5.2 has it, and nil if there is none.
	Header(lower string) []byte
	// Query returns the query without its question mark, as it was sent.
	Query() []byte
}

// Conditions are what a request must be besides its path. All must hold.
type Conditions struct {
	scheme  string // "http", "https", "": any
	method  string // "": any
	headers []comparison
	query   []comparison
}

type comparison struct {
	name    string
	value   string
	pattern *rule.Regexp // nil: value
}

// maxComparisons bounds what one request can cost.
const maxComparisons = 32

// NewConditions checks and compiles conditions. Without any it returns nil.
func NewConditions(of model.Conditions) (*Conditions, error) {
	if of.Scheme == "" && of.Method == "" && len(of.Headers)+len(of.Query) == 0 {
		return nil, nil
	}
	if of.Scheme != "" && of.Scheme != "http" && of.Scheme != "https" {
		return nil, fmt.Errorf("scheme %q is neither http nor https", rule.Shorten(of.Scheme))
	}
	if of.Method != "" && !rule.Token(of.Method) {
		return nil, fmt.Errorf("%q is no method", of.Method)
	}
	if n := len(of.Headers) + len(of.Query); n > maxComparisons {
		return nil, fmt.Errorf("%d conditions on headers and query: no more than %d are allowed", n, maxComparisons)
	}
	c := &Conditions{scheme: of.Scheme, method: of.Method}
	for _, h := range of.Headers {
		if err := rule.FieldName(h.Name); err != nil {
			return nil, err
		}
		one, err := compileComparison(h, lower(h.Name))
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", h.Name, err)
		}
		c.headers = append(c.headers, one)
	}
	for _, q := range of.Query {
		if q.Name == "" {
			return nil, fmt.Errorf("a condition on the query names no parameter")
		}
		one, err := compileComparison(q, q.Name)
		if err != nil {
			return nil, fmt.Errorf("query parameter %q: %w", q.Name, err)
		}
		c.query = append(c.query, one)
	}
	return c, nil
}

func compileComparison(c model.Comparison, name string) (comparison, error) {
	out := comparison{name: name, value: c.Value}
	if !c.Regexp {
		return out, nil
	}
	var err error
	out.pattern, err = rule.Within("^(?s:", c.Value, ")$")
	return out, err
}

func lower(name string) string { return string(bytes.ToLower([]byte(name))) }

// Fit reports whether a request is as the conditions want it. It allocates nothing.
func (c *Conditions) Fit(q Request) bool {
	if c.scheme != "" && q.Secure() != (c.scheme == "https") {
		return false
	}
	if c.method != "" && string(q.Method()) != c.method {
		return false
	}
	for i := range c.headers {
		value := q.Header(c.headers[i].name)
		if value == nil || !c.headers[i].fits(value) {
			return false
		}
	}
	if len(c.query) == 0 {
		return true
	}
	query := q.Query()
	for i := range c.query {
		value, there := parameter(query, c.query[i].name)
		if !there || !c.query[i].fits(value) {
			return false
		}
	}
	return true
}

func (c *comparison) fits(value []byte) bool {
	if c.pattern != nil {
		return c.pattern.Match(value)
	}
	return string(value) == c.value
}

// parameter returns the first value of a query's parameter, decoded. A malformed one counts as not
// there. It allocates only for what is encoded.
func parameter(query []byte, name string) (value []byte, there bool) {
	for len(query) > 0 {
		var one []byte
		one, query, _ = bytes.Cut(query, []byte{'&'})
		key, encoded, _ := bytes.Cut(one, []byte{'='})
		if decoded, ok := unescape(key); ok && string(decoded) == name {
			return unescape(encoded)
		}
	}
	return nil, false
}

// unescape decodes a part of a query: "+" is a blank, "%" begins a byte in hexadecimal digits. ok
// is false for what is malformed.
func unescape(text []byte) (out []byte, ok bool) {
	if bytes.IndexByte(text, '%') < 0 && bytes.IndexByte(text, '+') < 0 {
		return text, true
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%':
			if i+2 >= len(text) {
				return nil, false
			}
			high, low := digit(text[i+1]), digit(text[i+2])
			if high < 0 || low < 0 {
				return nil, false
			}
			c = byte(high<<4 | low)
			i += 2
		}
		out = append(out, c)
	}
	return out, true
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
