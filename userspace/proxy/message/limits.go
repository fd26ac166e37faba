package message

// Limits bounds what is accepted. The zero value of a member means its
// default.
type Limits struct {
	// RequestLine is the largest request line or status line in bytes, line end included.
	RequestLine int
	// Head is the largest head in bytes, from the first byte to the empty line.
	Head int
	// Fields is the largest number of field lines.
	Fields int
}

// DefaultLimits is what large cookies and long URLs need: as many bytes as the four buffers of
// 8 KiB that nginx reads requests into by default, used for any line.
var DefaultLimits = Limits{RequestLine: 32 << 10, Head: 32 << 10, Fields: 512}

// MaxHead is the most that Limits.Head can be set to, in bytes.
const MaxHead = 1 << 20

// OrDefaults returns the limits with a default for each that is not set.
func (l Limits) OrDefaults() Limits {
	if l.RequestLine <= 0 {
		l.RequestLine = DefaultLimits.RequestLine
	}
	if l.Head <= 0 {
		l.Head = DefaultLimits.Head
	}
	if l.Fields <= 0 {
		l.Fields = DefaultLimits.Fields
	}
	return l
}
