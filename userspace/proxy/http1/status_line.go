package http1

import (
	"strconv"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// statusLines holds the whole status line for every status from 100 to 599.
var statusLines = func() (t [500]string) {
	for i := range t {
		status := i + 100
		line := append([]byte("HTTP/1.1 "), byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10), ' ')
		line = append(line, message.StatusText(status)...)
		t[i] = string(append(line, "\r\n"...))
	}
	return t
}()

// AppendStatusLine appends "HTTP/1.1 status phrase". The phrase is the standard
// one, or empty where there is none: what a backend sent is not passed on, as
// no client may act on it (RFC 9112 section 4).
func AppendStatusLine(dst []byte, status int) []byte {
	if i := status - 100; uint(i) < uint(len(statusLines)) {
		return append(dst, statusLines[i]...)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendUint(dst, uint64(status), 10)
	return append(dst, " \r\n"...)
}
