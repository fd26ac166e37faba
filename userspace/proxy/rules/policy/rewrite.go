package policy

import (
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/route"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// rewrite replaces a path.
type rewrite struct {
	pattern *route.Pattern // nil: no group is used, so that nothing has to be matched
	path    []piece
	query   []piece // nil: that of the request alone
	alone   bool    // the request's query is dropped
}

// piece is a text, or what a group has matched.
type piece struct {
	text  string
	group int // 0: text
}

// compileRewrite reads a target: a path with $1 to $9 in it, and maybe a query. As in
// nginx, the client's query follows that of the target unless this ends with '?'.
func compileRewrite(target, path string, isRegexp bool) (*rewrite, error) {
	if target == "" {
		return nil, nil
	}
	if err := rule.Rewrite(target); err != nil {
		return nil, fmt.Errorf("the target %w", err)
	}
	var pattern *route.Pattern
	most := 0 // groups of a literal path
	if isRegexp {
		var err error
		if pattern, err = route.ParsePattern(path); err != nil {
			return nil, fmt.Errorf("path %q: %w", path, err)
		}
		most = pattern.NumGroups()
	}
	r := &rewrite{}
	before, query, hasQuery := strings.Cut(target, "?")
	groups := 0
	r.path = pieces(before, most, &groups)
	if hasQuery {
		query, r.alone = strings.CutSuffix(query, "?")
		r.alone = r.alone || query == ""
		r.query = pieces(query, most, &groups)
	}
	if groups > 0 {
		r.pattern = pattern
	}
	return r, nil
}

// pieces cuts a target that was checked.
func pieces(text string, most int, groups *int) (out []piece) {
	for text != "" {
		literal, rest, found := strings.Cut(text, "$")
		if literal != "" {
			out = append(out, piece{text: escapeForeign(literal)})
		}
		if !found {
			break
		}
		// A group that the expression does not have is empty, as in nginx.
		if n := int(rest[0] - '0'); n <= most {
			*groups++
			out = append(out, piece{group: n})
		}
		text = rest[1:]
	}
	return out
}

// escapeForeign escapes what is not ASCII, and leaves escapes as they are.
func escapeForeign(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < 0x80 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Rewritten is what Rewrite came to.
type Rewritten uint8

const (
	Kept     Rewritten = iota // the request keeps its path and query
	Replaced                  // it gets other ones
	Unsafe                    // the new path would lead elsewhere than it seems: refuse
)

// Rewrite appends the path and query that the pod gets to dst. The result begins with a
// slash, and is escaped like any path. It is Unsafe if it has a segment "." or "..", which
// a group that begins within a segment can make: "/files(.*)" of "/files../x".
func (p *Policy) Rewrite(dst []byte, q *Request) (buf, path, query []byte, outcome Rewritten) {
	r := p.rewrite
	if r == nil || q.fixed || len(q.Normal) == 0 || q.Normal[0] != '/' {
		return dst, nil, nil, Kept
	}
	var groups route.Groups
	if r.pattern != nil && !r.pattern.Find(q.Normal, &groups) {
		return dst, nil, nil, Kept
	}
	at := len(dst)
	if len(r.path) == 0 || r.path[0].group != 0 || r.path[0].text[0] != '/' {
		dst = append(dst, '/')
	}
	dst = r.append(dst, r.path, q.Normal, &groups, &plainPath)
	// "/$1" with a group that begins with a slash: one is enough, and "//host" would be
	// another host to whoever resolves it.
	for len(dst)-at > 1 && dst[at] == '/' && dst[at+1] == '/' {
		at++
	}
	end := len(dst)
	query = q.Args
	if r.alone {
		query = nil
	}
	if len(r.query) > 0 {
		dst = r.append(dst, r.query, q.Normal, &groups, &plainQuery)
		if len(query) > 0 {
			dst = append(dst, '&')
			dst = append(dst, query...)
		}
		query = dst[end:]
	}
	if hasDotSegment(dst[at:end]) {
		return dst, nil, nil, Unsafe
	}
	return dst, dst[at:end:end], query, Replaced
}

func hasDotSegment(path []byte) bool {
	for i, c := range path {
		if c != '/' || i+1 >= len(path) || path[i+1] != '.' {
			continue
		}
		rest := path[i+2:]
		if len(rest) > 0 && rest[0] == '.' {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0] == '/' {
			return true
		}
	}
	return false
}

func (r *rewrite) append(dst []byte, pieces []piece, path []byte, g *route.Groups, plain *[256]bool) []byte {
	for i := range pieces {
		n := pieces[i].group
		if n == 0 {
			dst = append(dst, pieces[i].text...)
		} else if from := g[2*n]; from >= 0 {
			dst = appendEscaped(dst, path[from:g[2*n+1]], plain)
		}
	}
	return dst
}

// Host appends the Host that the pod gets to dst, none if the request keeps its own.
func (p *Policy) Host(dst []byte, q *Request) []byte { return q.fill(dst, p.host) }
