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
	grown        map[*byte]int // bytes of those beyond LargeBuffer that Grow has made and that are in use
	huge         int           // of all of them
}

// maxFree bounds what a burst leaves behind, per size.
const maxFree = 256

// maxHuge bounds what Grow makes beyond LargeBuffer for one loop, in bytes.
const maxHuge = 64 << 20

// Grow returns a larger buffer that begins with the content of p, which it takes back: a large
// one, then four times as much each time up to most bytes. It reports false, and leaves p as it
// is, if p has most bytes already or the loop has too much in use for such heads.
func (b *Buffers) Grow(p []byte, most int) ([]byte, bool) {
	if len(p) >= most {
		return p, false
	}
	var q []byte
	if len(p) < LargeBuffer {
		q = b.Large()
	} else {
		n := min(4*len(p), most)
		if b.huge+n > maxHuge {
			return p, false
		}
		q = make([]byte, n)
		if b.grown == nil {
			b.grown = map[*byte]int{}
		}
		b.grown[&q[0]] = n
		b.huge += n
	}
	copy(q, p)
	b.Put(p)
	return q, true
}

// Small returns a buffer of at least SmallBuffer bytes with unspecified content.
func (b *Buffers) Small() []byte {
	if n := len(b.small); n > 0 {
		p := b.small[n-1]
		b.small = b.small[:n-1]
		return p
	}
	return make([]byte, SmallBuffer)
}

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
	case cap(p) == SmallBuffer:
		if len(b.small) < maxFree {
			b.small = append(b.small, p)
		}
	case cap(p) == LargeBuffer:
		if len(b.large) < maxFree {
			b.large = append(b.large, p)
		}
	case cap(p) > LargeBuffer:
		b.huge -= b.grown[&p[0]]
		delete(b.grown, &p[0])
	}
}
