package http1

import "time"

// Interims bounds the interim responses to one request by their rate: a WebDAV server may say
// 102 (Processing) every 20 seconds for as long as its work takes (RFC 2518 section 10.1), and
// none needs more than some at once. The zero value is ready for a request.
type Interims struct {
	used int
	at   int64 // loop time of the second that used was last lowered for, ns
}

const (
	interimBurst     = 32 // at once
	interimPerSecond = 1
)

// Take counts one that came at a time in nanoseconds, and reports whether it may be passed on.
func (i *Interims) Take(now int64) bool {
	if i.used == 0 {
		i.at = now
	}
	if seconds := (now - i.at) / int64(time.Second); seconds > 0 {
		i.at += seconds * int64(time.Second)
		i.used -= int(min(int64(i.used), seconds*interimPerSecond))
	}
	i.used++
	return i.used <= interimBurst
}
