// Package leaky counts what a peer may do often but not without end: frames that bring nothing
// further, requests taken back, bytes that are read and dropped. A Bucket fills with each of them
// and leaks at a steady rate; a peer that makes it overflow has gone too far.
package leaky

import "time"

// Rate is how much is allowed: Burst at once, and PerSecond more with each second.
type Rate struct{ Burst, PerSecond int64 }

// Bucket is what a peer has used of a Rate's burst. The zero value is empty. It has no lock: its
// owner synchronises its use.
type Bucket struct {
	used int64
	at   int64 // time up to which it has leaked, ns
}

// Take adds n at a time in nanoseconds, of a clock that does not go back, and reports whether that
// is within the rate. What is beyond the burst stays in the bucket, too: a peer that goes on is
// never within the rate again.
func (b *Bucket) Take(n, now int64, r Rate) bool {
	if b.used == 0 {
		b.at = now
	}
	if seconds := (now - b.at) / int64(time.Second); seconds > 0 {
		b.at += seconds * int64(time.Second)
		b.used -= min(b.used, seconds*r.PerSecond)
	}
	b.used += n
	return b.used <= r.Burst
}

// Empty forgives all that was used.
func (b *Bucket) Empty() { b.used = 0 }
