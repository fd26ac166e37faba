package upstream

import (
	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

func (st *Stream) beginBlock(trailer bool) {
	if trailer {
		st.trailers.Reset()
		st.trailers.Limits = st.Limits
	} else {
		st.next.Compose(st.Limits)
	}
}

func (st *Stream) addField(trailer bool, name, value string) error {
	if trailer {
		return st.trailers.AddField(name, value)
	}
	return st.next.AddField(name, value)
}

// endBlock acts on a head or on trailers that are complete.
func (st *Stream) endBlock(trailer, last bool) *Fault {
	switch {
	case st.done:
		return &Fault{Invalid, "fields_after_the_end"}
	case trailer && !last:
		return &Fault{Invalid, "head_after_the_head"}
	case trailer:
		if err := st.trailers.Finish(); err != nil {
			return &Fault{Invalid, message.Token(err)}
		}
		return st.end()
	}
	r := st.next
	if err := r.Finish(st.method, last); err != nil {
		return &Fault{Invalid, message.Token(err)}
	}
	if r.Interim() {
		// They are for information: of those that come faster than they are read, the
		// last one counts.
		if !st.informs.Take(st.pool.loop.Now()) {
			return &Fault{Invalid, "too_many_interim_responses"}
		}
		st.next, st.interim = st.interim, st.next
		st.unread = true
		st.wake(reactor.Readable)
		return nil
	}
	st.headed = true
	st.session.served = true
	st.session.idle.Empty()
	st.remaining = -1
	switch r.Body {
	case message.BodyNone:
		st.remaining = 0
	case message.BodyLength:
		st.remaining = r.ContentLength
	}
	if last {
		st.done = true
	}
	st.wake(reactor.Readable)
	return nil
}

// end notes the end of the response.
func (st *Stream) end() *Fault {
	if st.remaining > 0 {
		return &Fault{Aborted, "body_too_short"}
	}
	st.done = true
	st.wake(reactor.Readable)
	return nil
}

// takeData keeps a piece of the body. size is what it counts against the window, in bytes.
func (st *Stream) takeData(p []byte, size int, last bool) (*Fault, http2.ErrCode) {
	switch {
	case !st.headed:
		return &Fault{Invalid, "body_before_the_head"}, http2.ErrCodeProtocol
	case st.done:
		return &Fault{Invalid, "body_after_the_end"}, http2.ErrCodeStreamClosed
	case size > st.credit:
		return &Fault{Invalid, "flow_control_error"}, http2.ErrCodeFlowControl
	}
	st.credit -= size
	st.owed += size - len(p)
	if st.remaining >= 0 {
		if int64(len(p)) > st.remaining {
			return &Fault{Invalid, "body_too_long"}, http2.ErrCodeProtocol
		}
		st.remaining -= int64(len(p))
	}
	st.keep(p)
	if last {
		if f := st.end(); f != nil {
			return f, http2.ErrCodeProtocol
		}
	}
	st.wake(reactor.Readable)
	return nil, 0
}

// keep copies p into buffers of the loop.
func (st *Stream) keep(p []byte) {
	for len(p) > 0 {
		if n := len(st.segments); n > 0 {
			b := st.segments[n-1]
			m := min(cap(b)-len(b), len(p))
			st.segments[n-1] = append(b, p[:m]...)
			if p = p[m:]; len(p) == 0 {
				return
			}
		}
		st.segments = append(st.segments, st.pool.loop.Buffers.Small()[:0])
	}
}
