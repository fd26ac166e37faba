package message

import "github.com/kerngate/kerngate/userspace/proxy/message/chars"

// crumbSeparator stands between the crumbs of a cookie that are joined.
const crumbSeparator = "; "

// addCrumb appends a value to the first Cookie: HTTP/2 lets clients break the field into crumbs
// (RFC 9113 section 8.2.3). It counts as a part of that field, so that how a client breaks its
// cookies makes no difference to what is refused, and takes no memory beyond its bytes.
func (r *Request) addCrumb(value string) *Error {
	value = chars.TrimString(value)
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

// maxKeptCookie is how much space for joined crumbs a Request that is used again keeps.
const maxKeptCookie = 4 << 10
