package message

import "time"

// DateSize is the length of a date as AppendDate writes it, in bytes.
const DateSize = len("Sun, 06 Nov 1994 08:49:37 GMT")

// AppendDate appends t as an IMF-fixdate (RFC 9110 section 5.6.7). It takes
// about 100 ns: callers keep the result for as long as the second lasts.
func AppendDate(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, "Mon, 02 Jan 2006 15:04:05 GMT")
}
