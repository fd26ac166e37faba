package policy

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Split says which requests another service gets.
type Split struct {
	header  string // lower case
	value   string
	pattern *rule.Regexp
	cookie  string
	weight  uint64 // of 1<<32
}

// CompileSplit checks and prepares the rule of a split.
func CompileSplit(c *feedpb.Split) (Split, error) {
	out := Split{header: strings.ToLower(c.Header), value: c.Value, cookie: c.Cookie}
	if c.Header != "" {
		if err := rule.FieldName(c.Header); err != nil {
			return out, err
		}
	}
	if c.Pattern != "" {
		var err error
		if out.pattern, err = rule.Expression(c.Pattern); err != nil {
			return out, err
		}
	}
	if c.Cookie != "" {
		if !rule.Token(c.Cookie) {
			return out, fmt.Errorf("%q is no cookie's name", c.Cookie)
		}
	}
	total := max(uint64(c.Total), 1)
	out.weight = min(uint64(c.Weight), total) << 32 / total
	return out, nil
}

var always, never = []byte("always"), []byte("never")

// Wants reports whether the service of the split gets the request. random is a number below 1<<32.
// The header goes before the cookie, and that before the weight; what one does not decide
// is up to the next.
func (c *Split) Wants(q *Request, random uint32) bool {
	if c.header != "" {
		value := q.Lookup(c.header)
		switch {
		case c.value != "":
			if string(value) == c.value {
				return true
			}
		case c.pattern != nil:
			if value != nil && c.pattern.Match(value) {
				return true
			}
		case bytes.Equal(value, always):
			return true
		case bytes.Equal(value, never):
			return false
		}
	}
	if c.cookie != "" {
		switch value := q.cookie(c.cookie); {
		case bytes.Equal(value, always):
			return true
		case bytes.Equal(value, never):
			return false
		}
	}
	return uint64(random) < c.weight
}
