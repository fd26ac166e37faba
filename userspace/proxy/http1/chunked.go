package http1

import (
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/message/chars"
)

const (
	// maxChunkExtensions bounds the extensions of one body, in bytes: a body of
	// tiny chunks with long extensions would be a cheap way to burn CPU.
	maxChunkExtensions = 4 << 10
	// maxKeptTrailer is how much space for a trailer section a Chunked that is used again
	// keeps, in bytes.
	maxKeptTrailer = 4 << 10
	// maxKeptTrailers is the same for its fields.
	maxKeptTrailers = 256
)

// chunkState is where in the chunked coding the next byte stands.
type chunkState uint8

const (
	chunkSize         chunkState = iota // first digit of a size
	chunkSizeMore                       // another digit, or what follows the size
	chunkExtName                        // first character of an extension's name
	chunkExtNameMore                    // inside of it
	chunkExtValue                       // first character of a value
	chunkExtValueMore                   // inside a token value
	chunkExtQuoted                      // inside a quoted value
	chunkExtEscaped                     // after a backslash in it
	chunkExtAfter                       // behind a quoted value
	chunkSizeLF                         // the LF behind size and extensions
	chunkData                           // data
	chunkDataCR                         // the CR behind data
	chunkDataLF                         // the LF behind data
	chunkTrailers                       // the trailer section
	chunkDone                           // behind the end
	chunkFailed                         // something was not valid
)

// Chunked decodes the chunked transfer coding (RFC 9112 section 7.1). The zero
// value is ready for a body; Reset makes it ready for the next one.
type Chunked struct {
	// Limits bounds the trailer section as it would a head. It may be set after Reset.
	Limits message.Limits

	state      chunkState
	digits     uint8  // of the current size
	remaining  uint64 // bytes of data left in the current chunk
	extensions int    // bytes of extensions seen in this body

	fault    *message.Error  // in chunkFailed
	trailer  []byte          // the trailer section so far
	line     int             // offset of its first line not yet read
	trailers []message.Field // views into trailer
}

// Reset prepares for another body.
func (c *Chunked) Reset() {
	c.state, c.digits, c.remaining, c.extensions = chunkSize, 0, 0, 0
	c.trailer, c.line, c.trailers = c.trailer[:0], 0, c.trailers[:0]
	if cap(c.trailer) > maxKeptTrailer || cap(c.trailers) > maxKeptTrailers {
		c.trailer, c.trailers = nil, nil
	}
}

// Done reports whether the end of the body was read.
func (c *Chunked) Done() bool { return c.state == chunkDone }

// Trailers returns the fields after the last chunk once Decode has reported
// done. Fields that route, authenticate or describe the content mean
// nothing there and are left out (RFC 9110 section 6.5.1). They are views into
// memory of the Chunked, valid until Reset.
func (c *Chunked) Trailers() []message.Field { return c.trailers }

// Decode reads from buf, which continues where the n bytes of the call before
// ended. It consumes n bytes, and data is the last part of them: a view of buf
// with data of one chunk. Without done, either data is not empty or all of buf
// was consumed, so that no byte ever has to be kept. With done the body has
// ended at buf[n], and what follows belongs to the next message. An error is an
// *Error and lasts: nothing more can be known about the connection's bytes.
func (c *Chunked) Decode(buf []byte) (data []byte, n int, done bool, err error) {
	for n < len(buf) {
		switch c.state {
		case chunkData:
			size := uint64(len(buf) - n)
			if size >= c.remaining {
				size = c.remaining
				c.state = chunkDataCR
			}
			c.remaining -= size
			end := n + int(size)
			return buf[n:end], end, false, nil
		case chunkTrailers:
			used, done, fault := c.readTrailers(buf[n:])
			if fault != nil {
				return nil, 0, false, c.fail(fault)
			}
			return nil, n + used, done, nil
		case chunkDone:
			return nil, n, true, nil
		case chunkFailed:
			return nil, 0, false, c.fault
		default:
			if fault := c.step(buf[n]); fault != nil {
				return nil, 0, false, c.fail(fault)
			}
			n++
		}
	}
	return nil, n, c.state == chunkDone, nil
}

// fail makes every further call of Decode return the same fault.
func (c *Chunked) fail(fault *message.Error) *message.Error {
	c.state, c.fault = chunkFailed, fault
	return fault
}

// step reads one byte of what is around the data.
func (c *Chunked) step(b byte) *message.Error {
	switch c.state {
	case chunkSize:
		if chars.Classes[b]&chars.Hex == 0 {
			return message.ErrBadChunkSize
		}
		c.remaining = uint64(chars.HexValues[b])
		c.digits = 1
		c.state = chunkSizeMore
		return nil
	case chunkSizeMore:
		if chars.Classes[b]&chars.Hex != 0 {
			if c.digits++; c.digits > 16 || c.remaining >= 1<<59 {
				return message.ErrBadChunkSize
			}
			c.remaining = c.remaining<<4 | uint64(chars.HexValues[b])
			return nil
		}
		if b == '\n' {
			return message.ErrBareLF
		}
		if b != '\r' && b != ';' {
			return message.ErrBadChunkSize
		}
		return c.endOfExtension(b)
	case chunkSizeLF:
		if b != '\n' {
			return message.ErrBareCR
		}
		c.state = chunkData
		if c.remaining == 0 {
			c.state = chunkTrailers
		}
		return nil
	case chunkDataCR:
		if b != '\r' {
			return message.ErrBadChunkEnd
		}
		c.state = chunkDataLF
		return nil
	case chunkDataLF:
		if b != '\n' {
			return message.ErrBadChunkEnd
		}
		c.state = chunkSize
		return nil
	}
	return c.stepExtension(b)
}

// stepExtension reads one byte of ";name[=value]". RFC 9112 section 7.1.1 lets
// bad whitespace stand there, which we refuse.
func (c *Chunked) stepExtension(b byte) *message.Error {
	if c.extensions++; c.extensions > maxChunkExtensions {
		return message.ErrChunkExtensionLimit
	}
	if b == '\n' {
		return message.ErrBareLF
	}
	token := chars.Classes[b]&chars.Token != 0
	switch c.state {
	case chunkExtName:
		if !token {
			return message.ErrBadChunkExtension
		}
		c.state = chunkExtNameMore
	case chunkExtNameMore:
		if token {
			return nil
		}
		if b == '=' {
			c.state = chunkExtValue
			return nil
		}
		return c.endOfExtension(b)
	case chunkExtValue:
		switch {
		case token:
			c.state = chunkExtValueMore
		case b == '"':
			c.state = chunkExtQuoted
		default:
			return message.ErrBadChunkExtension
		}
	case chunkExtValueMore:
		if token {
			return nil
		}
		return c.endOfExtension(b)
	case chunkExtQuoted, chunkExtEscaped:
		switch {
		case b < 0x20 && b != '\t', b == 0x7f:
			return message.ErrBadChunkExtension
		case c.state == chunkExtEscaped:
			c.state = chunkExtQuoted
		case b == '\\':
			c.state = chunkExtEscaped
		case b == '"':
			c.state = chunkExtAfter
		}
	case chunkExtAfter:
		return c.endOfExtension(b)
	}
	return nil
}

// endOfExtension reads the byte behind a size or an extension.
func (c *Chunked) endOfExtension(b byte) *message.Error {
	switch b {
	case '\r':
		c.state = chunkSizeLF
	case ';':
		c.state = chunkExtName
	default:
		return message.ErrBadChunkExtension
	}
	return nil
}

// readTrailers reads from the trailer section. Its bytes are kept, since the
// fields in it must outlive the caller's buffer.
func (c *Chunked) readTrailers(buf []byte) (n int, done bool, err *message.Error) {
	// Nearly always there are none.
	if len(c.trailer) == 0 && len(buf) >= 2 && buf[0] == '\r' && buf[1] == '\n' {
		c.state = chunkDone
		return 2, true, nil
	}
	lim := c.Limits.OrDefaults()
	for n < len(buf) {
		// Up to and with the next LF.
		end := n
		for end < len(buf) && buf[end] != '\n' {
			end++
		}
		whole := end < len(buf)
		if whole {
			end++
		}
		if len(c.trailer)+end-n > lim.Head {
			return 0, false, message.ErrTrailerLimit
		}
		c.trailer = append(c.trailer, buf[n:end]...)
		n = end
		if !whole {
			break
		}
		if string(c.trailer[c.line:]) == "\r\n" {
			c.state = chunkDone
			return n, true, c.parseTrailers()
		}
		_, _, size, _, err := parseField(c.trailer[c.line:])
		if err != nil {
			return 0, false, err
		}
		c.line += size
	}
	return n, false, nil
}

// parseTrailers makes the fields, once c.trailer no longer moves.
func (c *Chunked) parseTrailers() *message.Error {
	lines, most := 0, c.Limits.OrDefaults().Fields
	for i := 0; i < c.line; {
		name, value, size, underscore, err := parseField(c.trailer[i:])
		if err != nil {
			return err
		}
		if lines++; lines > most {
			return message.ErrTrailerLimit
		}
		f, passes, err := message.TrailerField(message.FieldIDOf(name), name, value, underscore)
		if err != nil {
			return err
		}
		if passes {
			c.trailers = append(c.trailers, f)
		}
		i += size
	}
	return nil
}
