package http1

import "unsafe"

// A head of HTTP/2 or HTTP/3 arrives as names and values that are separate already
// (RFC 9113 section 8.3, RFC 9114 section 4.3). Compose, AddField for each of them in
// their order, and Finish make of it the same Request or Response that Parse would, under
// the same rules. Names and values are strings because that is what HPACK and QPACK
// decoders keep; the slices of the result are views of them and must not be written to.

// composing is the progress of a head between Compose and Finish.
type composing struct {
	lim    Limits
	size   int      // bytes so far, as RFC 9113 section 10.5.1 counts them
	pseudo pseudoID // which pseudo-header fields were there, a set
	fields bool     // a field that is none was there
	crumbs bool     // Request.cookie has joined crumbs
	fault  *Error   // the first, which Finish returns
}

// fieldOverhead is what a field counts beyond its bytes.
const fieldOverhead = 32

type pseudoID uint8

const (
	pseudoMethod pseudoID = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
)

// view returns the bytes of s without copying them.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (h *head) compose(lim Limits) {
	h.Minor = 1
	h.KeepAlive = true
	h.composing = composing{lim: lim.orDefaults()}
}

// fail keeps the first fault and returns it.
func (h *head) fail(err *Error) *Error {
	if h.composing.fault == nil {
		h.composing.fault = err
	}
	return h.composing.fault
}

// countField bounds the list of fields.
func (h *head) countField(name, value string) *Error {
	c := &h.composing
	if c.size += len(name) + len(value) + fieldOverhead; c.size > c.lim.Head {
		return ErrHeadLimit
	}
	return nil
}

// pseudoField checks order and repetition of a pseudo-header field.
func (h *head) pseudoField(id pseudoID) *Error {
	c := &h.composing
	switch {
	case c.fields:
		return ErrPseudoOrder
	case c.pseudo&id != 0:
		return ErrPseudoRepeated
	}
	c.pseudo |= id
	return nil
}

// addField takes a field that is no pseudo-header field.
func (h *head) addField(name, value string) *Error {
	h.composing.fields = true
	value = trimSpaceString(value)
	id, underscore, err := composedField(name, value)
	if err != nil {
		return err
	}
	if len(h.Fields) == h.composing.lim.Fields {
		return ErrFieldLimit
	}
	switch id {
	case FieldContentLength, FieldHost:
		if err := h.readField(id, view(value)); err != nil {
			return err
		}
	}
	f := h.newField()
	f.Name, f.Value, f.ID = view(name), view(value), id
	f.HopByHop = hopByHop.Has(id) || underscore && lookalike(f.Name)
	h.Present |= 1 << id
	return nil
}

// composedField checks a name and a value by themselves (RFC 9113 sections 8.2.1, 8.2.2).
// Whitespace around the value was removed, as the HTTP/1.1 parser does: section 8.2.1 calls
// it malformed, but gRPC servers send it, in grpc-message for example.
func composedField(name, value string) (id FieldID, underscore bool, err *Error) {
	var seen uint8
	for i := range len(name) {
		class := classes[name[i]]
		if class&classToken == 0 {
			return 0, false, ErrBadFieldName
		}
		seen |= class
	}
	switch {
	case len(name) == 0:
		return 0, false, ErrBadFieldName
	case seen&classUpper != 0:
		return 0, false, ErrUpperCaseName
	}
	v := view(value)
	for i := controlAt(v, 0); i < len(v); i = controlAt(v, i+1) {
		if v[i] != '\t' {
			return 0, false, ErrBadFieldValue
		}
	}
	id = fieldIDOf(view(name))
	switch id {
	case FieldConnection, FieldKeepAlive, FieldProxyConnection, FieldTransferEncoding, FieldUpgrade, FieldHTTP2Settings:
		return 0, false, ErrConnectionField
	case FieldTE:
		if !foldEqual(v, "trailers") {
			return 0, false, ErrBadTE
		}
	}
	return id, seen&classUnderscore != 0, nil
}

// Compose begins a head that is made of separate fields.
func (r *Request) Compose(lim Limits) {
	r.Reset()
	r.head.compose(lim)
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
	case !isToken(r.Method) || len(r.Method) > maxMethod:
		return ErrBadMethod
	}
	r.MethodID = methodOf(r.Method)
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
		if err := r.readExpect(); err != nil {
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
	case t[0] != '/' || targetEnd(t, 0) != len(t):
		return ErrBadTarget
	}
	r.Path = t
	for i, c := range t {
		if c == '?' {
			r.Path, r.Query = t[:i], t[i+1:]
			break
		}
	}
	r.PathNeedsNormalise = needsNormalise(r.Path)
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
	host, port, ok := r.readAuthority(r.Authority)
	if !ok || len(host) == 0 {
		return ErrBadHost
	}
	r.Host, r.Port = host, port
	if !named || string(r.Value(FieldHost)) == string(r.Authority) {
		return nil
	}
	var other Request // for its space for a host in lower case
	host, port, ok = other.readAuthority(r.Value(FieldHost))
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

// crumbSeparator stands between the crumbs of a cookie that are joined.
const crumbSeparator = "; "

// addCrumb appends a value to the first Cookie: HTTP/2 lets clients break the field into crumbs
// (RFC 9113 section 8.2.3). It counts as a part of that field, so that how a client breaks its
// cookies makes no difference to what is refused, and takes no memory beyond its bytes.
func (r *Request) addCrumb(value string) *Error {
	value = trimSpaceString(value)
	if _, _, err := composedField("cookie", value); err != nil {
		return err
	}
	c := &r.composing
	if c.size += len(crumbSeparator) + len(value); c.size > c.lim.Head {
		return ErrHeadLimit
	}
	if !c.crumbs {
		c.crumbs = true
		r.cookie = append(r.cookie[:0], r.Value(FieldCookie)...)
	}
	r.cookie = append(append(r.cookie, crumbSeparator...), value...)
	return nil
}

// joinCookies puts the crumbs in the place of the first.
func (r *Request) joinCookies() {
	if r.composing.crumbs {
		r.Field(FieldCookie).Value = r.cookie
	}
}

// TunnelWebSocket turns an extended CONNECT for websocket (RFC 8441, RFC 9220) into the
// request that opens a WebSocket over HTTP/1.1 (RFC 6455 section 4.1). key is for its
// Sec-WebSocket-Key: 16 random bytes in base64, which must stay as they are. It returns an
// *Error if the request asks for another protocol.
func (r *Request) TunnelWebSocket(key []byte) error {
	if string(r.Protocol) != "websocket" {
		return ErrConnectProtocol
	}
	r.Method, r.MethodID = methodGet, MethodGet
	r.Upgrade = r.Protocol
	for i := range r.Fields {
		switch f := &r.Fields[i]; string(f.Name) {
		case "sec-websocket-key", "sec-websocket-accept":
			f.HopByHop = true // they mean nothing in HTTP/2
		}
	}
	f := r.newField()
	f.Name, f.Value, f.ID, f.HopByHop = webSocketKey, key, FieldOther, false
	return nil
}

var (
	methodGet    = []byte("GET")
	webSocketKey = []byte("Sec-WebSocket-Key")
)

// Compose begins a head that is made of separate fields.
func (r *Response) Compose(lim Limits) {
	r.Reset()
	r.head.compose(lim)
}

// AddField is Request.AddField for a response.
func (r *Response) AddField(name, value string) error {
	if r.composing.fault != nil {
		return r.composing.fault
	}
	err := r.countField(name, value)
	switch {
	case err != nil:
	case name == ":status":
		if err = r.pseudoField(pseudoStatus); err == nil {
			err = r.readStatus(value)
		}
	case len(name) > 0 && name[0] == ':':
		err = ErrUnknownPseudo
	default:
		err = r.addField(name, value)
	}
	if err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Response) readStatus(value string) *Error {
	if len(value) != 3 {
		return ErrBadStatus
	}
	for i := range len(value) {
		if classes[value[i]]&classDigit == 0 {
			return ErrBadStatus
		}
		r.Status = r.Status*10 + int(value[i]-'0')
	}
	if r.Status < 100 || r.Status == 101 { // there is no Upgrade (RFC 9113 section 8.6)
		return ErrBadStatus
	}
	return nil
}

// Finish checks what a response to a request with this method must have. ended says that
// no body follows. A body of unknown length is BodyChunked, since its end is marked and
// trailers may come with it; the bytes themselves are not in chunks. An error is an *Error.
func (r *Response) Finish(method Method, ended bool) error {
	if r.composing.fault != nil {
		return r.composing.fault
	}
	switch {
	case r.composing.pseudo&pseudoStatus == 0:
		return r.fail(ErrPseudoMissing)
	case r.Interim() && ended:
		return r.fail(ErrBadStatus) // a final response must follow
	case r.Interim(), r.Status == 204:
		r.Body, r.ContentLength = BodyNone, -1
	case r.Status == 304, method == MethodHead:
		r.Body = BodyNone
	case ended && r.ContentLength > 0:
		return r.fail(ErrLengthMismatch)
	case ended:
		r.Body = BodyNone
	case r.ContentLength >= 0:
		r.Body = BodyLength
	default:
		r.Body, r.Chunked = BodyChunked, true
	}
	return nil
}

// ComposedTrailers are the fields after a body that arrive separately. The zero value is
// ready; Reset makes it ready for the next message.
type ComposedTrailers struct {
	// Fields are those that may be forwarded: fields that route, authenticate or describe
	// the content mean nothing after it and are left out (RFC 9110 section 6.5.1).
	Fields []Field
	// Limits bounds the section as it would a head. It may be set after Reset.
	Limits Limits
	lines  int
	size   int
	fault  *Error
}

// Reset prepares for another message.
func (t *ComposedTrailers) Reset() {
	t.Fields, t.lines, t.size, t.fault = t.Fields[:0], 0, 0, nil
	if cap(t.Fields) > 2*maxKeptFields {
		t.Fields = nil
	}
}

// AddField takes the next field. After an error, which is an *Error, further calls return
// the same and do nothing.
func (t *ComposedTrailers) AddField(name, value string) error {
	if t.fault != nil {
		return t.fault
	}
	if t.fault = t.add(name, value); t.fault != nil {
		return t.fault
	}
	return nil
}

func (t *ComposedTrailers) add(name, value string) *Error {
	t.lines++
	lim := t.Limits.orDefaults()
	if t.size += len(name) + len(value) + fieldOverhead; t.size > lim.Head || t.lines > lim.Fields {
		return ErrTrailerLimit
	}
	if len(name) > 0 && name[0] == ':' {
		return ErrPseudoOrder
	}
	value = trimSpaceString(value)
	id, underscore, err := composedField(name, value)
	switch {
	case err != nil:
		return err
	case framing.Has(id):
		return ErrFramingTrailer
	case !noTrailer.Has(id) && !(underscore && lookalike(view(name))):
		t.Fields = append(t.Fields, Field{Name: view(name), Value: view(value), ID: id})
	}
	return nil
}

// Finish returns the first fault as an *Error, or nil.
func (t *ComposedTrailers) Finish() error {
	if t.fault != nil {
		return t.fault
	}
	return nil
}
