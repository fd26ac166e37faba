package message

import "github.com/kerngate/kerngate/userspace/proxy/io/leaky"

// Interims bounds the interim responses to one request by their rate: a WebDAV server may say
// 102 (Processing) every 20 seconds for as long as its work takes (RFC 2518 section 10.1), and
// none needs more than some at once. The zero value is ready for a request.
type Interims struct{ bucket leaky.Bucket }

var interimRate = leaky.Rate{Burst: 32, PerSecond: 1}

// Take counts one that came at a time in nanoseconds, and reports whether it may be passed on.
func (i *Interims) Take(now int64) bool { return i.bucket.Take(1, now, interimRate) }
