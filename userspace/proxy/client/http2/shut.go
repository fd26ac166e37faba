package http2

import "slices"

// A response that the client has no window for holds a connection to a pod, a buffer here, and
// buffers of the kernel on both ends of that connection: a quarter of a MiB in all, for a request
// of some bytes. A client that asks for much and takes nothing would have pods produce it all the
// same. So only some requests of a connection are begun while the client has shut its window for
// them. The others wait here, where they cost their heads, until it takes something.

const (
	// maxShut is how many requests of a connection may be under way whose windows are shut.
	maxShut = 8
	// openWindow is from how many bytes on a window counts as open.
	openWindow = 1 << 10
)

// shut reports whether the client takes next to nothing of the stream's response for now.
func (s *stream) shut() bool { return min(s.window, s.conn.out.window) < openWindow }

// startOrWait has a stream started, unless its window is shut and those of too many others are.
func (c *Conn) startOrWait(s *stream) {
	if s.shut() && s.refusal == nil && (len(c.waiting) > 0 || c.shutStreams(s) >= maxShut) {
		s.queued = true
		c.waiting = append(c.waiting, s)
		return
	}
	c.starts = append(c.starts, s)
}

// shutStreams counts the streams under way, but for one, whose windows are shut.
func (c *Conn) shutStreams(but *stream) (n int) {
	for _, s := range c.streams {
		if s != but && !s.queued && s.shut() {
			n++
		}
	}
	return n
}

// startWaiting has streams started for whose responses there are windows, or fewer others without
// one than there may be.
func (c *Conn) startWaiting() {
	if len(c.waiting) == 0 || c.state != open {
		return
	}
	room := maxShut - c.shutStreams(nil)
	kept := c.waiting[:0]
	for _, s := range c.waiting {
		if shut := s.shut(); shut && room <= 0 {
			kept = append(kept, s)
			continue
		} else if shut {
			room--
		}
		s.queued = false
		c.starts = append(c.starts, s)
	}
	clear(c.waiting[len(kept):])
	if c.waiting = kept; len(c.starts) > 0 {
		c.touch()
	}
}

// waitNoLonger has a stream that was taken back started, which ends it.
func (c *Conn) waitNoLonger(s *stream) {
	if !s.queued {
		return
	}
	s.queued = false
	c.waiting = slices.DeleteFunc(c.waiting, func(other *stream) bool { return other == s })
	c.starts = append(c.starts, s)
	c.touch()
}
