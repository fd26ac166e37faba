package http1

import "github.com/kerngate/kerngate/userspace/proxy/message"

// progress is how far the head of a message was read, and what its Connection says.
type progress struct {
	// Of an unfinished head: line is the offset of the first line not yet read, seen is how many
	// bytes were searched for its end.
	line, seen int
	resumed    bool // an earlier call has read lines from an older buffer

	connectionClose     bool
	connectionKeepAlive bool
	connectionUpgrade   bool
	nominated           int // names in Connection other than the well-known ones
}

// parseFields reads field lines from buf[i] on and the empty line after them.
// It returns the offset of the first byte behind. On errMore, p.line is the
// offset of the line to go on with.
func (p *progress) parseFields(h *message.Head, buf []byte, i int, lim *message.Limits) (next int, err *message.Error) {
	for {
		p.line = i
		if i >= lim.Head {
			return 0, message.ErrHeadLimit
		}
		if i >= len(buf) {
			return 0, errMore
		}
		if buf[i] == '\r' {
			if i+1 == len(buf) {
				return 0, errMore
			}
			if buf[i+1] != '\n' {
				return 0, message.ErrBareCR
			}
			if i+2 > lim.Head {
				return 0, message.ErrHeadLimit
			}
			return i + 2, nil
		}
		name, value, size, underscore, err := parseField(buf[i:])
		if err != nil {
			if err == errMore && len(buf) >= lim.Head {
				err = message.ErrHeadLimit
			}
			return 0, err
		}
		i += size
		if i > lim.Head {
			return 0, message.ErrHeadLimit
		}
		if len(h.Fields) == lim.Fields {
			return 0, message.ErrFieldLimit
		}
		id := message.FieldIDOf(name)
		again := h.Receive(id, name, value, underscore)
		if readFields.Has(id) {
			if err := p.readField(h, id, value, again); err != nil {
				return 0, err
			}
		}
	}
}

// lineEnds reports whether the unfinished line at p.line is worth another
// look: it ends in buf, or it has reached the limit (an offset into buf).
func (p *progress) lineEnds(buf []byte, limit int) bool {
	if len(buf) >= limit {
		return true
	}
	from := max(p.seen, p.line)
	p.seen = len(buf)
	return from < len(buf) && hasLF(buf[from:])
}
