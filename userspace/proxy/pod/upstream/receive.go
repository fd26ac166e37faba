package upstream

import (
	"errors"
	"math"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// maxBlock bounds a header list, as its fields are counted in RFC 9113 section 10.5.1, and
// its compressed form: what no Stream.Limits may exceed. A list that is larger than its own
// stream's limit ends that stream alone.
const maxBlock = message.MaxHead

// block is a header block while its frames come in.
type block struct {
	stream  *Stream // nil: of a stream that is gone, decoded for the table's sake alone
	id      uint32
	trailer bool
	last    bool // END_STREAM
	size    int  // compressed
	fault   bool // nothing more needs to be understood
}

// readFrame reads a frame and acts on it. An error ends the session.
func (s *session) readFrame() error {
	f, err := s.framer.ReadFrame()
	if err != nil {
		var e http2.StreamError
		if errors.As(err, &e) {
			return s.refuse(e)
		}
		if errors.Is(err, http2.ErrFrameTooLarge) {
			return http2.ConnectionError(http2.ErrCodeFrameSize)
		}
		return err
	}
	if !s.idle.Take(1, s.pool.loop.Now(), idleRate) {
		return errFlood
	}
	switch f := f.(type) {
	case *http2.DataFrame:
		return s.takeData(f)
	case *http2.HeadersFrame:
		return s.takeHeaders(f)
	case *http2.ContinuationFrame:
		return s.takeBlock(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.RSTStreamFrame:
		return s.takeReset(f)
	case *http2.WindowUpdateFrame:
		return s.takeWindow(f)
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		return s.takeSettings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			s.framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		s.takeGoAway(f)
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol) // we have forbidden it
	}
	return s.due()
}

// refuse resets a stream on which the pod broke the rules.
func (s *session) refuse(e http2.StreamError) error {
	if st := s.streams[e.StreamID]; st != nil {
		s.framer.WriteRSTStream(st.id, e.Code)
		st.fail(&Fault{Invalid, codeToken(e.Code)})
		return nil
	}
	return s.idleStream(e.StreamID)
}

// idleStream checks the id of a frame for no open stream: one that is closed is fine, as the
// frame may have been on its way; one that we never opened is not.
func (s *session) idleStream(id uint32) error {
	if id >= s.nextID || id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

func (s *session) takeData(f *http2.DataFrame) error {
	// The window counts padding, too.
	size := int(f.Length)
	if s.unacked += size; s.unacked >= sessionWindow/4 {
		s.framer.WriteWindowUpdate(0, uint32(s.unacked))
		s.unacked = 0
	}
	st := s.streams[f.StreamID]
	if st == nil {
		return s.idleStream(f.StreamID)
	}
	if len(f.Data()) > 0 || f.StreamEnded() {
		s.idle.Empty()
	}
	if fault, code := st.takeData(f.Data(), size, f.StreamEnded()); fault != nil {
		s.framer.WriteRSTStream(st.id, code)
		st.fail(fault)
	}
	return nil
}

func (s *session) takeHeaders(f *http2.HeadersFrame) error {
	b := &s.block
	*b = block{stream: s.streams[f.StreamID], id: f.StreamID, last: f.StreamEnded()}
	if b.stream == nil {
		if err := s.idleStream(f.StreamID); err != nil {
			return err
		}
	} else {
		b.trailer = b.stream.headed
		b.stream.beginBlock(b.trailer)
	}
	s.decoder.SetEmitEnabled(b.stream != nil)
	return s.takeBlock(f.HeaderBlockFragment(), f.HeadersEnded())
}

// takeBlock decodes a piece of a header block. What follows a fault is decoded, too, as the
// table must be kept in step, but its fields are not looked at.
func (s *session) takeBlock(p []byte, ended bool) error {
	b := &s.block
	if b.size += len(p); b.size > maxBlock {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if _, err := s.decoder.Write(p); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if !ended {
		return nil
	}
	if s.decoder.Close() != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	st := s.blockStream()
	b.stream = nil
	if st == nil {
		return nil
	}
	if fault := st.endBlock(b.trailer, b.last); fault != nil {
		s.framer.WriteRSTStream(st.id, http2.ErrCodeProtocol)
		st.fail(fault)
	}
	return nil
}

// blockStream returns the stream that the block is for, nil if it was given up since the
// block began.
func (s *session) blockStream() *Stream {
	if st := s.block.stream; st != nil && st.session == s && st.id == s.block.id {
		return st
	}
	return nil
}

// field takes a field that the decoder has read.
func (s *session) field(f hpack.HeaderField) {
	b := &s.block
	st := s.blockStream()
	if b.fault || st == nil {
		return
	}
	if st.addField(b.trailer, f.Name, f.Value) != nil {
		b.fault = true
		s.decoder.SetEmitEnabled(false)
	}
}

func (s *session) takeReset(f *http2.RSTStreamFrame) error {
	st := s.streams[f.StreamID]
	if st == nil {
		return s.idleStream(f.StreamID)
	}
	switch {
	case f.ErrCode == http2.ErrCodeRefusedStream && !st.headed:
		st.fail(&Fault{Unprocessed, "refused_stream"})
	case st.headed:
		st.fail(&Fault{Aborted, codeToken(f.ErrCode)})
	default:
		st.fail(&Fault{Reset, codeToken(f.ErrCode)})
	}
	return nil
}

func (s *session) takeWindow(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if s.window += int64(f.Increment); s.window > math.MaxInt32 {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		s.wakeBlocked()
		return nil
	}
	st := s.streams[f.StreamID]
	if st == nil {
		return s.idleStream(f.StreamID)
	}
	if st.window += int64(f.Increment); st.window > math.MaxInt32 {
		return s.refuse(http2.StreamError{StreamID: st.id, Code: http2.ErrCodeFlowControl})
	}
	st.wake(reactor.Writable)
	return nil
}

func (s *session) takeSettings(f *http2.SettingsFrame) error {
	err := f.ForeachSetting(func(v http2.Setting) error {
		if err := v.Valid(); err != nil {
			return err
		}
		switch v.ID {
		case http2.SettingMaxConcurrentStreams:
			s.limit = min(v.Val, maxStreams)
		case http2.SettingMaxFrameSize:
			s.maxFrame = int(min(v.Val, dataRoom/4))
		case http2.SettingMaxHeaderListSize:
			s.maxList = uint64(v.Val)
		case http2.SettingEnableConnectProtocol:
			s.connects = v.Val == 1
		case http2.SettingInitialWindowSize:
			delta := int64(v.Val) - s.initial
			s.initial = int64(v.Val)
			for _, st := range s.streams {
				if st.window += delta; st.window > math.MaxInt32 {
					return http2.ConnectionError(http2.ErrCodeFlowControl)
				}
			}
			s.wakeBlocked()
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.framer.WriteSettingsAck()
	return nil
}

// takeGoAway: the pod closes the connection. What it has not begun with goes elsewhere.
func (s *session) takeGoAway(f *http2.GoAwayFrame) {
	detail := "goaway"
	if f.ErrCode != http2.ErrCodeNo {
		detail = codeToken(f.ErrCode)
	}
	for id, st := range s.streams {
		if id > f.LastStreamID {
			st.fail(&Fault{Unprocessed, detail})
		}
	}
	s.retire()
}

// codeToken returns an error code's name in the form of our own tokens.
func codeToken(c http2.ErrCode) string {
	if int(c) < len(codeTokens) {
		return codeTokens[c]
	}
	return unknownCode
}

var codeTokens = [...]string{
	"no_error", "protocol_error", "internal_error", "flow_control_error", "settings_timeout",
	"stream_closed", "frame_size_error", "refused_stream", "cancel", "compression_error",
	"connect_error", "enhance_your_calm", "inadequate_security", "http_1_1_required",
}

// IsCode reports whether the detail of a fault is the code of an RST_STREAM frame.
func IsCode(detail string) bool {
	return slices.Contains(codeTokens[:], detail) || detail == unknownCode
}

const unknownCode = "unknown_code"
