package model

import (
	"cmp"
	"fmt"
	"strings"
)

// Conditions are what a request must be besides its path. All must hold.
type Conditions struct {
	// Scheme is "https" for requests of listeners with TLS and "http" for those of others, whatever
	// a header says; "": any.
	Scheme  string
	Method  string       // "": any
	Headers []Comparison // by Name
	Query   []Comparison // by Name
}

// Comparison is a condition on one header or query parameter.
type Comparison struct {
	Name   string // of a header: in any case
	Value  string
	Regexp bool // Value is an RE2 expression that the whole value must match
}

// String returns the conditions on one line.
func (c *Conditions) String() string {
	var parts []string
	if c.Scheme != "" {
		parts = append(parts, "scheme "+c.Scheme)
	}
	if c.Method != "" {
		parts = append(parts, "method "+c.Method)
	}
	for _, h := range c.Headers {
		parts = append(parts, "header "+h.String())
	}
	for _, q := range c.Query {
		parts = append(parts, "query "+q.String())
	}
	return strings.Join(parts, ", ")
}

func (c Comparison) String() string {
	operator := "="
	if c.Regexp {
		operator = "~"
	}
	return fmt.Sprintf("%s %s %q", c.Name, operator, c.Value)
}

// Rank orders routes of one host and path, which differ by their conditions. Each vocabulary says
// how: the fields of GatewayAPI's precedence, and for Ingress, which has no conditions, zero.
type Rank struct {
	Method  bool // a route with a condition on the method goes first
	Headers int  // then that with more conditions on headers
	Query   int  // then that with more on the query
	// Order decides the rest, the lower first: of the objects by age and name, and in an object of
	// its rules as they stand there.
	Order int
}

// Compare returns less than 0 if routes of rank r go first.
func (r Rank) Compare(other Rank) int {
	if r.Method != other.Method {
		if r.Method {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(other.Headers, r.Headers), cmp.Compare(other.Query, r.Query), cmp.Compare(r.Order, other.Order))
}
