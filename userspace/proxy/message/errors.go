package message

import "github.com/kerngate/kerngate/userspace/route"

// Error says why a message was refused. All values are made beforehand, so
// they can be compared with == and cost no allocation.
type Error struct {
	// Status is the status code for the client when the fault is in a request.
	// For a response the proxy answers 502 whatever stands here.
	Status int
	// Reason is a stable token for logs, metrics and the answer's body.
	Reason string
	// Malformed is set for what HTTP/2 and HTTP/3 call a malformed message, which ends its
	// stream with PROTOCOL_ERROR or MESSAGE_ERROR (RFC 9113 section 8.1.1).
	Malformed bool
	// Words is set where the fault lies in what a message says and not in how its sender's
	// HTTP works: in a response, a client may have made the application say it.
	Words bool
	text  string
}

// Error describes the fault for a log line.
func (e *Error) Error() string { return e.text }

// Text returns the sentence for people.
func (e *Error) Text() string { return e.text }

func refuse(status int, reason, text string) *Error {
	e := &Error{Status: status, Reason: reason, text: text}
	known = append(known, e)
	return e
}

// words marks an error as one of Error.Words.
func words(e *Error) *Error {
	e.Words = true
	return e
}

// IsWords reports whether the error with this Reason is one of Error.Words.
func IsWords(reason string) bool {
	for _, e := range known {
		if e.Reason == reason {
			return e.Words
		}
	}
	return false
}

// malformed makes an error of a head that is composed.
func malformed(reason, text string) *Error {
	e := refuse(400, reason, text)
	e.Malformed = true
	return e
}

// known lists every Error in the order of the declarations below; see Errors.
var known []*Error

// Errors returns every error that a message can be refused with, for the registration
// of metrics and for the reference documentation.
func Errors() []*Error { return append([]*Error(nil), known...) }

// Errors of the request line.
var (
	ErrBadRequestLine   = refuse(400, "bad_request_line", "request line is not METHOD SP target SP version CRLF")
	ErrBadMethod        = refuse(400, "bad_method", "method is not a token of at most 32 characters")
	ErrBadTarget        = refuse(400, "bad_target", "request target has a character or a form that is not allowed")
	ErrBadVersion       = refuse(400, "bad_version", "protocol version is malformed")
	ErrRequestLineLimit = refuse(414, "request_line_too_long", "request line exceeds its limit")
	ErrPathCost         = refuse(400, "path_too_costly", "path is too long to be searched for the expressions of its host's Ingresses")
	ErrConnect          = refuse(501, "connect_not_implemented", "CONNECT is not implemented by a reverse proxy")
	ErrVersion          = refuse(505, "version_not_supported", "protocol version is neither HTTP/1.0 nor HTTP/1.1")
	// ErrHTTP2Preface is returned for "PRI * HTTP/2.0", the beginning of an
	// HTTP/2 connection with prior knowledge; the caller may hand the bytes over.
	ErrHTTP2Preface = refuse(505, "http2_preface", "client speaks HTTP/2 with prior knowledge")
	ErrTLS          = refuse(400, "tls_on_plain_port", "client speaks TLS on a port for plain HTTP")
)

// Errors of lines and fields, in requests, responses and trailers.
var (
	ErrBareLF        = refuse(400, "bare_lf", "line ends with LF without CR")
	ErrBareCR        = refuse(400, "bare_cr", "CR is not followed by LF")
	ErrObsFold       = refuse(400, "obs_fold", "field line begins with whitespace (obsolete line folding)")
	ErrBadFieldName  = words(malformed("bad_field_name", "field name is empty or not a token directly followed by a colon"))
	ErrBadFieldValue = words(malformed("bad_field_value", "field value has a control character"))
	ErrHeadLimit     = words(refuse(431, "head_too_large", "head exceeds its limit in bytes"))
	ErrFieldLimit    = words(refuse(431, "too_many_fields", "head exceeds its limit of fields"))
)

// Errors of single fields and of their combination.
var (
	ErrBadContentLength      = malformed("bad_content_length", "Content-Length is not one decimal number below 2^63")
	ErrSeveralContentLengths = malformed("several_content_lengths", "more than one Content-Length")
	ErrLengthAndEncoding     = refuse(400, "content_length_and_transfer_encoding", "both Content-Length and Transfer-Encoding")
	ErrBadTransferEncoding   = refuse(400, "bad_transfer_encoding", "Transfer-Encoding is malformed, repeated or not chunked at the end")
	ErrTransferCoding        = refuse(501, "transfer_coding_not_implemented", "Transfer-Encoding names a coding other than chunked")
	ErrTransferEncodingOn10  = refuse(400, "transfer_encoding_on_http10", "Transfer-Encoding in an HTTP/1.0 message")
	ErrMissingHost           = refuse(400, "missing_host", "HTTP/1.1 request without Host")
	ErrSeveralHosts          = refuse(400, "several_hosts", "more than one Host")
	ErrBadHost               = refuse(400, "bad_host", "host is not a DNS name or an address with an optional port")
	ErrBadConnection         = refuse(400, "bad_connection", "Connection is not a short list of tokens")
	ErrExpectation           = refuse(417, "unknown_expectation", "Expect is not 100-continue")
)

// Errors of a response.
var (
	ErrBadStatusLine = refuse(502, "bad_status_line", "status line is not HTTP/1.x SP three digits")
)

// Errors of a chunked body.
var (
	ErrBadChunkSize        = refuse(400, "bad_chunk_size", "chunk size is not 1 to 16 hexadecimal digits below 2^63")
	ErrBadChunkExtension   = refuse(400, "bad_chunk_extension", "chunk extension is malformed")
	ErrChunkExtensionLimit = refuse(400, "chunk_extensions_too_large", "chunk extensions exceed their limit in bytes")
	ErrBadChunkEnd         = refuse(400, "bad_chunk_end", "chunk data is not followed by CRLF")
	ErrFramingTrailer      = malformed("framing_in_trailers", "Content-Length or Transfer-Encoding in the trailer section")
	ErrTrailerLimit        = words(refuse(431, "trailers_too_large", "trailer section exceeds its limit"))
)

// Errors of heads and trailers that arrive as separate fields; see Request.Compose.
var (
	ErrUpperCaseName     = malformed("upper_case_field_name", "field name has an upper-case letter")
	ErrConnectionField   = malformed("connection_specific_field", "Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding, Upgrade or HTTP2-Settings in a message that cannot have it")
	ErrBadTE             = malformed("bad_te", "TE is not trailers")
	ErrUnknownPseudo     = malformed("unknown_pseudo_field", "pseudo-header field is unknown or has no place in this message")
	ErrPseudoRepeated    = malformed("repeated_pseudo_field", "pseudo-header field stands there twice")
	ErrPseudoOrder       = malformed("pseudo_field_after_fields", "pseudo-header field behind other fields or in the trailer section")
	ErrPseudoMissing     = malformed("missing_pseudo_field", ":method, :scheme, :path or :status is missing")
	ErrEmptyPath         = malformed("empty_path", ":path is empty")
	ErrBadScheme         = malformed("bad_scheme", ":scheme is neither http nor https")
	ErrBadStatus         = malformed("bad_status", ":status is not three digits of a status that this version has")
	ErrAuthorityMismatch = malformed("authority_and_host_differ", ":authority and Host name different hosts")
	ErrLengthMismatch    = malformed("content_length_mismatch", "body is longer or shorter than Content-Length says")
	ErrLengthOfTunnel    = malformed("content_length_of_tunnel", "Content-Length in a CONNECT request")
	ErrConnectProtocol   = refuse(501, "connect_protocol_not_implemented", "extended CONNECT for a protocol other than websocket")
)

// Errors of a stream of HTTP/2, which end it whatever its messages are.
var (
	ErrStreamDependency = malformed("stream_depends_on_itself", "HEADERS frame makes its stream depend on itself")
	ErrStreamWindow     = malformed("stream_flow_control", "more DATA came than the stream's window allows, or its window exceeds 2^31-1")
	ErrStreamClosed     = malformed("stream_closed", "frame came after the end of the request")
	ErrStreamFrame      = malformed("malformed_frame", "frame for the stream is not valid")
)

// pathErrors are those of a path that cannot be matched, which package route finds.
var pathErrors = map[*route.PathError]*Error{
	route.ErrBadEscape:     ofPath(route.ErrBadEscape),
	route.ErrPathEscapes:   ofPath(route.ErrPathEscapes),
	route.ErrPathControl:   ofPath(route.ErrPathControl),
	route.ErrPathAmbiguous: ofPath(route.ErrPathAmbiguous),
}

func ofPath(e *route.PathError) *Error { return refuse(400, e.Reason, e.Text) }

// OfPath returns what a request is refused with because of its path.
func OfPath(e *route.PathError) *Error { return pathErrors[e] }

// Token returns the token of a fault in a message or its path, "" of any other error.
func Token(err error) string {
	switch e := err.(type) {
	case *Error:
		return e.Reason
	case *route.PathError:
		return e.Reason
	}
	return ""
}
