package policy

import (
	"bytes"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// replacement changes a text that a pod has written.
type replacement struct {
	from, to string
	pattern  *rule.Regexp // nil: from is literal
}

func compileReplacements(list []*feedpb.Replacement) ([]replacement, error) {
	var out []replacement
	for _, r := range list {
		re, err := rule.Replacement(r.From, r.To, r.Pattern)
		if err != nil {
			return nil, err
		}
		out = append(out, replacement{from: r.From, to: r.To, pattern: re})
	}
	return out, nil
}

// replace appends value with the first replacement that fits at its beginning; ok is false
// if none does.
func replace(dst, value []byte, list []replacement) (_ []byte, ok bool) {
	for i := range list {
		r := &list[i]
		if r.pattern == nil {
			if rest, fits := bytes.CutPrefix(value, []byte(r.from)); fits {
				dst = append(dst, r.to...)
				return append(dst, rest...), true
			}
			continue
		}
		if m := r.pattern.FindSubmatchIndex(value); m != nil {
			at := len(dst)
			dst = clean(r.pattern.Expand(dst, expandable(r.to), value, m), at)
			return append(dst, value[m[1]:]...), true
		}
	}
	return dst, false
}

// expandable turns "$1x" into "${1}x": for package regexp the former is a group of that name.
func expandable(to string) []byte {
	var b []byte
	for i := 0; i < len(to); i++ {
		if to[i] == '$' && i+1 < len(to) && '1' <= to[i+1] && to[i+1] <= '9' {
			b = append(b, '$', '{', to[i+1], '}')
			i++
			continue
		}
		b = append(b, to[i])
	}
	return b
}

// clean removes what could end the value early from what was appended behind at.
func clean(dst []byte, at int) []byte {
	out := dst[:at]
	for _, c := range dst[at:] {
		if c >= ' ' && c != 0x7f && c != ';' {
			out = append(out, c)
		}
	}
	return out
}

// EditResponse changes a pod's final response. Values are appended to dst.
func (p *Policy) EditResponse(dst []byte, q *Request, r *message.Response) []byte {
	if p.plain {
		return dst
	}
	if len(p.locations) > 0 {
		dst = p.editLocations(dst, r)
	}
	if len(p.cookieDomains)+len(p.cookiePaths) > 0 && r.Present.Has(message.FieldSetCookie) {
		for i := range r.Fields {
			if f := &r.Fields[i]; f.ID == message.FieldSetCookie {
				at := len(dst)
				dst = p.appendCookie(dst, f.Value)
				f.Value = dst[at:len(dst):len(dst)]
			}
		}
	}
	if p.cors != nil {
		p.cors.edit(q, r)
	}
	return edit(dst, p.response, q, responseHead{r})
}

// EditAnswer changes an answer of the proxy's own, as EditResponse does a pod's.
func (p *Policy) EditAnswer(dst []byte, q *Request, r *message.Response) []byte {
	if p == nil || p.plain {
		return dst
	}
	if p.cors != nil && !r.Passes("access-control-allow-origin") { // else it is one that CORS asks for
		p.cors.edit(q, r)
	}
	return edit(dst, p.response, q, responseHead{r})
}

// EditReply changes the headers of an answer of the proxy's own that h is the head of.
func (p *Policy) EditReply(dst []byte, q *Request, h Head) []byte {
	if p.cors != nil {
		p.cors.editHead(q, h)
	}
	return edit(dst, p.response, q, h)
}

func (p *Policy) editLocations(dst []byte, r *message.Response) []byte {
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != message.FieldLocation && !(f.ID == message.FieldOther && len(f.Name) == len("refresh") && equalFold(f.Name, "refresh")) {
			continue
		}
		value, prefix := f.Value, 0
		if f.ID == message.FieldOther { // "5; url=/path"
			n := bytes.Index(bytes.ToLower(value), []byte("url="))
			if n < 0 {
				continue
			}
			prefix = n + len("url=")
		}
		at := len(dst)
		dst = append(dst, value[:prefix]...)
		if changed, ok := replace(dst, value[prefix:], p.locations); ok {
			dst = changed
			f.Value = dst[at:len(dst):len(dst)]
		} else {
			dst = dst[:at]
		}
	}
	return dst
}

// appendCookie appends a Set-Cookie with its Domain and Path replaced (RFC 6265 section 4.1).
func (p *Policy) appendCookie(dst, value []byte) []byte {
	for first := true; ; first = false {
		part, rest, more := bytes.Cut(value, semicolon)
		name, text, _ := bytes.Cut(part, []byte{'='})
		list := []replacement(nil)
		if !first { // the cookie's own name may be "path"
			switch trimmed := bytes.TrimSpace(name); {
			case len(trimmed) == len("domain") && equalFold(trimmed, "domain"):
				list = p.cookieDomains
			case len(trimmed) == len("path") && equalFold(trimmed, "path"):
				list = p.cookiePaths
			}
		}
		at := len(dst)
		dst = append(append(dst, name...), '=')
		if changed, ok := replace(dst, bytes.TrimSpace(text), list); ok {
			dst = changed
		} else {
			dst = append(dst[:at], part...)
		}
		if !more {
			return dst
		}
		dst = append(dst, ';')
		value = rest
	}
}
