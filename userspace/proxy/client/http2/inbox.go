package http2

import "github.com/kerngate/kerngate/userspace/proxy/io/reactor"

// inbox holds the part of a request's body that has arrived and that the pod has not taken.
// The stream's window bounds it.
type inbox struct {
	chunks  []chunk
	size    int  // bytes not yet taken
	newly   int  // bytes taken for the first time since the last call of credit
	known   int  // bytes of the first chunk that were taken before a rewind
	dropped bool // a chunk was given back: the beginning is gone
}

// chunk is a buffer of which b[r:w] is to be taken.
type chunk struct {
	b    []byte
	r, w int
}

// put appends a copy of p.
func (in *inbox) put(p []byte, bufs *reactor.Buffers) {
	in.size += len(p)
	for len(p) > 0 {
		n := len(in.chunks)
		if n == 0 || in.chunks[n-1].w == len(in.chunks[n-1].b) {
			b := bufs.Small()
			in.chunks = append(in.chunks, chunk{b: b})
			n++
		}
		c := &in.chunks[n-1]
		m := copy(c.b[c.w:], p)
		c.w += m
		p = p[m:]
	}
}

// take returns the next piece, which stays as it is until the next call; nil if there is none.
func (in *inbox) take(bufs *reactor.Buffers) []byte {
	for len(in.chunks) > 0 {
		c := &in.chunks[0]
		if c.r < c.w {
			p := c.b[c.r:c.w]
			c.r = c.w
			in.size -= len(p)
			in.newly += max(c.r-in.known, 0) - max(c.r-len(p)-in.known, 0)
			return p
		}
		switch {
		case len(in.chunks) > 1:
			bufs.Put(c.b)
			in.chunks = in.chunks[:copy(in.chunks, in.chunks[1:])]
		case c.w == len(c.b) || in.dropped:
			bufs.Put(c.b)
			in.chunks = in.chunks[:0]
		default:
			return nil // kept for rewind
		}
		in.dropped, in.known = true, 0
	}
	return nil
}

// rewind makes take start again from the beginning, if that is still there.
func (in *inbox) rewind() bool {
	if in.dropped {
		return false
	}
	if len(in.chunks) > 0 {
		c := &in.chunks[0]
		in.known = max(in.known, c.r)
		in.size += c.r
		c.r = 0
	}
	return true
}

// buffered returns how many bytes its buffers take.
func (in *inbox) buffered() int { return len(in.chunks) * reactor.SmallBuffer }

// credit returns how many bytes were taken since it was last called.
func (in *inbox) credit() int {
	n := in.newly
	in.newly = 0
	return n
}

// release gives the buffers back and returns how many bytes nobody has taken.
func (in *inbox) release(bufs *reactor.Buffers) int {
	left := in.size
	if len(in.chunks) > 0 && in.known > in.chunks[0].r {
		left -= in.known - in.chunks[0].r // were credited before the rewind
	}
	for i := range in.chunks {
		bufs.Put(in.chunks[i].b)
		in.chunks[i] = chunk{}
	}
	*in = inbox{chunks: in.chunks[:0]}
	return left
}
