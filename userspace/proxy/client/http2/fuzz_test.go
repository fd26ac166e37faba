package http2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// seeds are frames behind the preface.
func seeds(add func([]byte)) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	fields := func(list ...string) []byte {
		block.Reset()
		for i := 0; i < len(list); i += 2 {
			enc.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
		}
		return bytes.Clone(block.Bytes())
	}
	get := []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}
	write := func(f func(fr *http2.Framer)) {
		var b bytes.Buffer
		fr := http2.NewFramer(&b, nil)
		fr.AllowIllegalWrites = true
		fr.WriteSettings()
		f(fr)
		add(b.Bytes())
	}
	write(func(fr *http2.Framer) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(get...), EndStream: true, EndHeaders: true})
	})
	write(func(fr *http2.Framer) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(append(get, "content-length", "5")...), EndHeaders: true, PadLength: 3})
		fr.WriteDataPadded(1, false, []byte("he"), make([]byte, 4))
		fr.WriteData(1, true, []byte("llo"))
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: fields(append(get, "x-a", "b")...), EndHeaders: true})
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: fields("x-sum", "1"), EndHeaders: true, EndStream: true})
	})
	write(func(fr *http2.Framer) {
		b := fields(get...)
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:2], EndStream: true})
		fr.WriteContinuation(1, true, b[2:])
		fr.WriteRSTStream(1, http2.ErrCodeCancel)
		fr.WritePing(false, [8]byte{})
		fr.WriteWindowUpdate(0, 100)
		fr.WritePriority(3, http2.PriorityParam{StreamDep: 1})
		fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye"))
	})
	write(func(fr *http2.Framer) {
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(get...), EndStream: true, EndHeaders: true})
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		fr.WriteWindowUpdate(1, 1)
		fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2})
		fr.WriteRawFrame(0x42, 0xff, 7, []byte("x"))
	})
	write(func(fr *http2.Framer) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: fields(
			":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/")})
		fr.WriteData(1, true, []byte("raw"))
	})
}

// FuzzFrames sends bytes on a live connection, in one piece or split in two. Whatever they
// are, the proxy answers in whole frames and does not keep the connection's memory, every
// request has one end, and the next client is served.
func FuzzFrames(f *testing.F) {
	seeds(func(b []byte) {
		f.Add(b, uint16(0))
		f.Add(b, uint16(20))
	})
	p := start(f, pod(f, echo), &feedpb.Settings{HeadTimeoutMs: 1000, IdleTimeoutMs: 1000, BodyTimeoutMs: 1000, ResponseTimeoutMs: 1000})
	f.Fuzz(func(t *testing.T, b []byte, split uint16) {
		panics := p.Metrics.Panics.Load()
		c, err := net.Dial("tcp", p.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, http2.ClientPreface)
		n := min(int(split), len(b))
		c.Write(b[:n])
		if n > 0 {
			time.Sleep(100 * time.Microsecond)
		}
		c.Write(b[n:])
		c.(*net.TCPConn).CloseWrite()
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		answer, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection does not end")
		}
		for rest := answer; len(rest) > 0 && err == nil; {
			if len(rest) < 9 {
				t.Fatalf("the answer %x ends within a frame", answer)
			}
			size := 9 + int(rest[0])<<16 + int(rest[1])<<8 + int(rest[2])
			if size > len(rest) || size > 9+1<<14 || binary.BigEndian.Uint32(rest[5:])>>31 != 0 || rest[3] > byte(http2.FrameContinuation) {
				t.Fatalf("the answer %x has the frame %x", answer, rest[:9])
			}
			rest = rest[size:]
		}
		if n := p.Metrics.Panics.Load(); n != panics {
			t.Fatalf("%d panics", n-panics)
		}
		calm(t, p)
	})
}

// FuzzHeaderBlock sends a header block, in one frame or in two. If a decoder that has no
// limits understands it, so does the proxy, and answers or resets that request and goes on
// with the next one: their tables agree. Else the connection ends for want of sense.
func FuzzHeaderBlock(f *testing.F) {
	seeds(func(b []byte) { f.Add(b[18:], uint8(0), uint8(5)) })
	f.Add([]byte("\x82\x86\x84\x41\x01a\x40\x01x\x01y\xbe\xbe"), uint8(3), uint8(5))
	f.Add([]byte("\x20\x3f\xe1\x1f\x82\x86\x84\x41\x01a"), uint8(0), uint8(1))
	f.Add([]byte("\x3f\xe2\x1f\x82"), uint8(0), uint8(5))
	f.Add([]byte("\x82\x86\x84\x41\x01a\x00\x7f\xff\xff\xff\xff\x07"), uint8(2), uint8(5))
	f.Add([]byte("\x82\x86\x84\x41\x01a\x0f\x2f\x85\xff\xff\xff\xff\xff"), uint8(9), uint8(5))
	p := start(f, says(f, "HTTP/1.1 204 No Content\r\n\r\n"), &feedpb.Settings{})
	f.Fuzz(func(t *testing.T, b []byte, split, flags uint8) {
		if len(b) > 200 {
			return // more could be more than a head may be, and is then not looked at as closely
		}
		_, err := hpack.NewDecoder(4096, nil).DecodeFull(b)
		c := connect(t, p)
		n := min(int(split), len(b))
		end := http2.Flags(flags) & http2.FlagHeadersEndStream
		if n == 0 {
			c.WriteRawFrame(http2.FrameHeaders, end|http2.FlagHeadersEndHeaders, 1, b)
		} else {
			c.WriteRawFrame(http2.FrameHeaders, end, 1, b[:n])
			c.WriteRawFrame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, b[n:])
		}
		c.WriteRSTStream(1, http2.ErrCodeCancel)
		c.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, 3, []byte("\x82\x86\x84\x01\x06a.test"))
		for {
			f, rerr := c.ReadFrame()
			if rerr != nil {
				t.Fatalf("the connection ended without a word: %v", rerr)
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				if err == nil {
					t.Fatalf("%x can be decoded, and was answered by %v", b, f)
				}
				c.Close()
				return
			case *http2.HeadersFrame:
				if f.StreamID == 3 {
					if err != nil {
						t.Fatalf("%x cannot be decoded (%v), and the connection goes on", b, err)
					}
					if f.HeaderBlockFragment()[0] != 0x89 { // :status 204
						t.Fatalf("the next request was answered by %x", f.HeaderBlockFragment())
					}
					c.Close()
					return
				}
			}
		}
	})
}
