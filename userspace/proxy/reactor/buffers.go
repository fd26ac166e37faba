package reactor

// SmallBuffer holds a request or response head and small bodies; LargeBuffer moves large
// ones.
const (
	SmallBuffer = 16 << 10
	LargeBuffer = 64 << 10
)

// Buffers keeps a loop's free buffers, last used first, so that what is handed out is
// still in the cache.
type Buffers struct {
	small, large [][]byte
	size         int // of small buffers, if raised
}

// maxFree bounds what a burst leaves behind, per size.
const maxFree = 256

// Raise makes small buffers at least n bytes, for larger heads.
func (b *Buffers) Raise(n int) {
	if n > max(b.size, SmallBuffer) {
		b.size, b.small = n, nil
	}
}

// Small returns a buffer of at least SmallBuffer bytes with unspecified content.
func (b *Buffers) Small() []byte {
	if n := len(b.small); n > 0 {
		p := b.small[n-1]
		b.small = b.small[:n-1]
		return p
	}
	return make([]byte, b.smallSize())
}

func (b *Buffers) smallSize() int { return max(b.size, SmallBuffer) }

// Large returns a buffer of LargeBuffer bytes with unspecified content.
func (b *Buffers) Large() []byte {
	if n := len(b.large); n > 0 {
		p := b.large[n-1]
		b.large = b.large[:n-1]
		return p
	}
	return make([]byte, LargeBuffer)
}

// Put takes a buffer back. The caller keeps no reference into it.
func (b *Buffers) Put(p []byte) {
	p = p[:cap(p)]
	switch {
	case cap(p) == b.smallSize():
		if len(b.small) < maxFree {
			b.small = append(b.small, p)
		}
	case cap(p) == LargeBuffer:
		if len(b.large) < maxFree {
			b.large = append(b.large, p)
		}
	}
}
