package message

// Method identifies a request method.
type Method uint8

// The methods of RFC 9110 and RFC 5789; every other one is MethodOther.
const (
	MethodOther Method = iota
	MethodGet
	MethodHead
	MethodPost
	MethodPut
	MethodDelete
	MethodPatch
	MethodOptions
	MethodTrace
	MethodConnect
)

// MaxMethod is the longest method name accepted, in bytes.
const MaxMethod = 32

var methodNames = [...]string{
	"", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT",
}

// String returns the method's name, or "other"; it suits a metric label.
func (m Method) String() string {
	if m == MethodOther || int(m) >= len(methodNames) {
		return "other"
	}
	return methodNames[m]
}

// Idempotent reports whether a request may be sent again when it is unknown
// whether the first one was carried out (RFC 9110 section 9.2.2).
func (m Method) Idempotent() bool {
	switch m {
	case MethodGet, MethodHead, MethodPut, MethodDelete, MethodOptions, MethodTrace:
		return true
	}
	return false
}

// MethodOf finds a method by its name, which is case-sensitive.
func MethodOf(name []byte) Method {
	switch string(name) {
	case "GET":
		return MethodGet
	case "HEAD":
		return MethodHead
	case "POST":
		return MethodPost
	case "PUT":
		return MethodPut
	case "DELETE":
		return MethodDelete
	case "PATCH":
		return MethodPatch
	case "OPTIONS":
		return MethodOptions
	case "TRACE":
		return MethodTrace
	case "CONNECT":
		return MethodConnect
	}
	return MethodOther
}
