package message

import "github.com/kerngate/kerngate/userspace/proxy/message/chars"

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
	lim := t.Limits.OrDefaults()
	if t.size += len(name) + len(value) + fieldOverhead; t.size > lim.Head || t.lines > lim.Fields {
		return ErrTrailerLimit
	}
	if len(name) > 0 && name[0] == ':' {
		return ErrPseudoOrder
	}
	value = chars.TrimString(value)
	id, underscore, err := composedField(name, value)
	if err != nil {
		return err
	}
	f, passes, err := TrailerField(id, view(name), view(value), underscore)
	if passes {
		t.Fields = append(t.Fields, f)
	}
	return err
}

// Finish returns the first fault as an *Error, or nil.
func (t *ComposedTrailers) Finish() error {
	if t.fault != nil {
		return t.fault
	}
	return nil
}

// TrailerField makes a field of a trailer section, and reports whether it may be forwarded: fields
// that route, authenticate or describe the content mean nothing there.
func TrailerField(id FieldID, name, value []byte, underscore bool) (f Field, passes bool, err *Error) {
	if framing.Has(id) {
		return Field{}, false, ErrFramingTrailer
	}
	return Field{Name: name, Value: value, ID: id}, !noTrailer.Has(id) && !(underscore && lookalike(name)), nil
}
