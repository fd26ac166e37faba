package message

import (
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
	"github.com/kerngate/kerngate/userspace/route"
)

// Compose begins a head that is made of separate fields.
func (r *Request) Compose(lim Limits) {
	r.Reset()
	r.Head.compose(lim)
}

// AddField takes the next field, pseudo-header fields included. After an error, which is
// an *Error, further calls return the same and do nothing.
func (r *Request) AddField(name, value string) error {
	if r.composing.fault != nil {
		return r.composing.fault
	}
	if name == "cookie" && r.Present.Has(FieldCookie) {
		if err := r.addCrumb(value); err != nil {
			return r.fail(err)
		}
		return nil
	}
	err := r.countField(name, value)
	switch {
	case err != nil:
	case len(name) > 0 && name[0] == ':':
		err = r.addPseudo(name, value)
	default:
		err = r.addField(name, value)
	}
	if err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Request) addPseudo(name, value string) *Error {
	var id pseudoID
	switch name {
	case ":method":
		id, r.Method = pseudoMethod, view(value)
	case ":scheme":
		id, r.Secure = pseudoScheme, value == "https"
		if !r.Secure && value != "http" {
			return ErrBadScheme
		}
	case ":authority":
		id, r.Authority = pseudoAuthority, view(value)
	case ":path":
		id, r.Target = pseudoPath, view(value)
	case ":protocol":
		id, r.Protocol = pseudoProtocol, view(value)
	default:
		return ErrUnknownPseudo
	}
	return r.pseudoField(id)
}

// Finish checks what a request must have and draws the conclusions that need all fields.
// ended says that no body follows. The body of a request that does not tell its length is
// forwarded to HTTP/1.1 in chunks: Chunked is set. An error is an *Error.
func (r *Request) Finish(ended bool) error {
	if r.composing.fault != nil {
		return r.composing.fault
	}
	if err := r.finishComposed(ended); err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Request) finishComposed(ended bool) *Error {
	pseudo := r.composing.pseudo
	switch {
	case pseudo&pseudoMethod == 0:
		return ErrPseudoMissing
	case !chars.IsToken(r.Method) || len(r.Method) > MaxMethod:
		return ErrBadMethod
	}
	r.MethodID = MethodOf(r.Method)
	if r.MethodID == MethodConnect {
		if pseudo&pseudoProtocol == 0 {
			return ErrConnect
		}
	} else if pseudo&pseudoProtocol != 0 {
		return ErrUnknownPseudo // RFC 8441 section 4: it stands with CONNECT alone
	}
	if pseudo&pseudoScheme == 0 || pseudo&pseudoPath == 0 {
		return ErrPseudoMissing
	}
	if err := r.readComposedTarget(); err != nil {
		return err
	}
	if err := r.readComposedAuthority(); err != nil {
		return err
	}
	if r.Present.Has(FieldExpect) {
		if err := r.ReadExpect(); err != nil {
			return err
		}
	}
	r.TETrailers = r.Present.Has(FieldTE)
	r.joinCookies()
	switch {
	case r.MethodID == MethodConnect:
		if r.ContentLength >= 0 {
			return ErrLengthOfTunnel
		}
	case !ended:
		r.Chunked = r.ContentLength < 0
	case r.ContentLength > 0:
		return ErrLengthMismatch
	case r.ContentLength < 0 && (r.MethodID == MethodPost || r.MethodID == MethodPut || r.MethodID == MethodPatch):
		r.ContentLength = 0 // in HTTP/1.1 it has to be said (RFC 9110 section 8.6)
	}
	return nil
}

// readComposedTarget splits :path, which has origin or asterisk form (RFC 9113 section 8.3.1).
func (r *Request) readComposedTarget() *Error {
	t := r.Target
	switch {
	case len(t) == 0:
		return ErrEmptyPath
	case len(t) > r.composing.lim.RequestLine:
		return ErrRequestLineLimit
	case len(t) == 1 && t[0] == '*' && r.MethodID == MethodOptions:
		r.Path = t
		return nil
	case t[0] != '/' || chars.TargetEnd(t, 0) != len(t):
		return ErrBadTarget
	}
	r.Path = t
	for i, c := range t {
		if c == '?' {
			r.Path, r.Query = t[:i], t[i+1:]
			break
		}
	}
	r.PathNeedsNormalise = route.NeedsNormalise(r.Path)
	return nil
}

// readComposedAuthority reads :authority or Host. If there are both they must name the
// same host and port; which of them another reader goes by must not matter.
func (r *Request) readComposedAuthority() *Error {
	named := r.Present.Has(FieldHost)
	if r.composing.pseudo&pseudoAuthority == 0 {
		if !named {
			return ErrMissingHost
		}
		r.Authority = r.Value(FieldHost)
	}
	host, port, ok := r.ReadAuthority(r.Authority)
	if !ok || len(host) == 0 {
		return ErrBadHost
	}
	r.Host, r.Port = host, port
	if !named || string(r.Value(FieldHost)) == string(r.Authority) {
		return nil
	}
	var other Request // for its space for a host in lower case
	host, port, ok = other.ReadAuthority(r.Value(FieldHost))
	if !ok {
		return ErrBadHost
	}
	if string(host) != string(r.Host) || r.portOr(port) != r.portOr(r.Port) {
		return ErrAuthorityMismatch
	}
	return nil
}

// portOr returns the port, or the scheme's if it is 0.
func (r *Request) portOr(port uint16) uint16 {
	switch {
	case port != 0:
		return port
	case r.Secure:
		return 443
	}
	return 80
}
