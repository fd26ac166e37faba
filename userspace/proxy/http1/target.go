package http1

import (
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
	"github.com/kerngate/kerngate/userspace/route"
)

var (
	slash    = []byte("/")
	asterisk = []byte("*")
)

// readTarget checks the form of the target (RFC 9112 section 3.2). On entry
// Path is the target up to a '?', on return the path proper.
func (r *Request) readTarget() *message.Error {
	switch {
	case r.MethodID == message.MethodConnect:
		return message.ErrConnect
	case r.Target[0] == '/':
		return nil
	case r.Target[0] == '*':
		if len(r.Target) != 1 || r.MethodID != message.MethodOptions {
			return message.ErrBadTarget
		}
		return nil
	}
	return r.readAbsolute()
}

// readAbsolute takes scheme and authority off a target in absolute form.
func (r *Request) readAbsolute() *message.Error {
	var scheme int
	switch {
	case len(r.Path) > 7 && chars.FoldEqual(r.Path[:4], "http") && string(r.Path[4:7]) == "://":
		scheme = 7
	case len(r.Path) > 8 && chars.FoldEqual(r.Path[:5], "https") && string(r.Path[5:8]) == "://":
		scheme = 8
		r.Secure = true
	default:
		return message.ErrBadTarget
	}
	r.Absolute = true
	rest := r.Path[scheme:]
	end := 0
	for end < len(rest) && rest[end] != '/' {
		end++
	}
	r.Authority = rest[:end]
	r.Path = rest[end:]
	if len(r.Path) == 0 {
		r.Path = slash
		if r.MethodID == message.MethodOptions && r.Query == nil {
			r.Path = asterisk // RFC 9112 section 3.2.4
		}
	}
	// The scan of the line has seen the "//" of the scheme.
	r.PathNeedsNormalise = route.NeedsNormalise(r.Path)
	return nil
}
