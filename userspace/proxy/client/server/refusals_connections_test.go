package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/http2"
	"github.com/kerngate/kerngate/userspace/proxy/client/http3"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// breaches has a row for every reason for which a connection can be refused before a request
// is read, by metric and reason: how it is provoked, or with a dash why it is not here.
func breaches() map[string]any {
	h2 := func(do func(a *asker2)) func(s *refusing) {
		return func(s *refusing) {
			a := newAsker2(s, s.dial(s.Address, false), "http").(*asker2)
			do(a)
			if got := a.reply(); got.status != 0 {
				s.t.Errorf("answered with %d", got.status)
			}
		}
	}
	rawH2 := func(bytes string) func(s *refusing) {
		return func(s *refusing) { // over TLS: in clear text it would be HTTP/1.1
			c := s.dialTLS("app.test", "h2", false)
			io.WriteString(c, bytes)
			io.Copy(io.Discard, c)
		}
	}
	hello := func(change func(*tls.Config)) func(s *refusing) {
		return func(s *refusing) {
			c := &tls.Config{ServerName: "app.test", InsecureSkipVerify: true}
			change(c)
			if err := tls.Client(s.dial(s.secure, false), c).Handshake(); err == nil {
				s.t.Error("the handshake was done")
			}
		}
	}
	toTLS := func(bytes string) func(s *refusing) {
		return func(s *refusing) {
			c := s.dial(s.secure, false)
			io.WriteString(c, bytes)
			io.Copy(io.Discard, c)
		}
	}
	header := func(bytes string) func(s *refusing) {
		return func(s *refusing) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(balancerAddress)}}
			c, err := d.Dial("tcp", s.Address)
			if err != nil {
				s.t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, bytes)
			if strings.HasSuffix(bytes, "half") {
				c.(*net.TCPConn).CloseWrite()
			}
			if got, _ := io.ReadAll(c); len(got) > 0 {
				s.t.Errorf("answered with %q", got)
			}
		}
	}
	const v2 = "\r\n\r\n\x00\r\nQUIT\n"
	v2with := func(rest string) string { return v2 + rest }
	quicHello := func(change func(*tls.Config)) func(s *refusing) {
		return func(s *refusing) {
			c := &tls.Config{ServerName: "app.test", InsecureSkipVerify: true, NextProtos: []string{"h3"}}
			change(c)
			if _, err := quic.DialAddr(s.t.Context(), s.quic, c, nil); err == nil {
				s.t.Error("the handshake was done")
			}
		}
	}
	h3 := func(do func(c *quic.Conn)) func(s *refusing) {
		return func(s *refusing) {
			c, err := quic.DialAddr(s.t.Context(), s.quic, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { c.CloseWithError(0x100, "") })
			do(c)
			<-c.Context().Done()
		}
	}
	uni := func(c *quic.Conn, bytes string) *quic.SendStream {
		stream, err := c.OpenUniStream()
		if err != nil {
			return nil
		}
		io.WriteString(stream, bytes)
		return stream
	}
	const control = "\x00\x04\x00" // its type, SETTINGS of length 0
	const packets = "- it takes packets that no QUIC library of ours can be made to send"

	return map[string]any{
		"http2_errors no_preface":  rawH2("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"),
		"http2_errors no_settings": rawH2(xhttp2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"),
		"http2_errors frame_too_large": h2(func(a *asker2) {
			a.WriteRawFrame(xhttp2.FrameData, 0, 1, make([]byte, 16<<10+1))
		}),
		"http2_errors malformed_frame": h2(func(a *asker2) { a.WriteRawFrame(xhttp2.FramePing, 0, 0, []byte("short")) }),
		"http2_errors idle_stream":     h2(func(a *asker2) { a.WriteData(7, true, []byte("data")) }),
		"http2_errors closed_stream": h2(func(a *asker2) {
			a.send(question{path: "/ok"}.withDefaults())
			a.reply()
			a.send(question{path: "/ok"}.withDefaults())
		}),
		"http2_errors flow_control": h2(func(a *asker2) { a.WriteWindowUpdate(0, 1<<31-1) }),
		"http2_errors invalid_setting": h2(func(a *asker2) {
			a.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 1})
		}),
		"http2_errors push_promise": h2(func(a *asker2) {
			a.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: block("a", "b"), EndHeaders: true})
		}),
		"http2_errors interrupted_header_block": h2(func(a *asker2) {
			a.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block("a", "b")})
			a.WritePing(false, [8]byte{})
		}),
		"http2_errors continuation_without_headers": h2(func(a *asker2) { a.WriteContinuation(1, true, block("a", "b")) }),
		"http2_errors undecodable_header_block": h2(func(a *asker2) {
			a.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true, EndStream: true})
		}),
		"http2_streams_refused too_many": func(s *refusing) {
			a := newAsker2(s, s.dial(s.Address, false), "http").(*asker2)
			for id := uint32(1); id <= 5; id += 2 {
				a.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true,
					BlockFragment: block(":method", "GET", ":scheme", "http", ":authority", "app.test", ":path", "/silent")})
			}
			if got := a.reply(); got.status != 0 {
				s.t.Errorf("answered with %d", got.status)
			}
		},
		"http2_streams_refused draining": "- see TestDrain of package http2",

		"handshakes timeout": toTLS("\x16\x03\x01\x00\x50"),
		"handshakes closed":  func(s *refusing) { c := s.dial(s.secure, false); io.WriteString(c, "\x16\x03\x01\x00\x50"); c.Close() },
		"handshakes limit":   tooManyHandshakes,
		"handshakes not_tls": toTLS("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"),
		"handshakes version": hello(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }),
		"handshakes suite": hello(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		}),
		"handshakes protocol": hello(func(c *tls.Config) { c.NextProtos = []string{"acme-tls/1"} }),
		"handshakes alert":    hello(func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, x509.NewCertPool() }),
		"handshakes invalid":  toTLS("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"),

		"proxy_headers missing":   header("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"),
		"proxy_headers version":   header(v2with("\x31\x11\x00\x0c............")),
		"proxy_headers syntax":    header("PROXY TCP4 192.0.2.1\r\n"),
		"proxy_headers address":   header("PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n"),
		"proxy_headers transport": header(v2with("\x21\x12\x00\x0c............")),
		"proxy_headers too_long":  header("PROXY TCP4 " + strings.Repeat("1", 200)),
		"proxy_headers tlv":       header(v2with("\x21\x11\x00\x0d............\x04")),
		"proxy_headers checksum":  header(v2with("\x21\x11\x00\x13............\x03\x00\x04abcd")),
		"proxy_headers timeout":   header("PROXY TCP4 192."),
		"proxy_headers closed":    header("PROXY TCP4 half"),

		"http3_handshakes timeout":  quicTimeout,
		"http3_handshakes closed":   "- a client that gives up says so by a code, or says nothing, which is a timeout; with a code it is alert",
		"http3_handshakes version":  "- QUIC has TLS 1.3 alone, and crypto/tls sends no other hello",
		"http3_handshakes protocol": quicHello(func(c *tls.Config) { c.NextProtos = []string{"hq"} }),
		"http3_handshakes alert":    quicHello(func(c *tls.Config) { c.InsecureSkipVerify, c.RootCAs = false, x509.NewCertPool() }),
		"http3_handshakes invalid":  packets,

		"http3_errors general_protocol_error": "- quic-go uses other codes",
		"http3_errors stream_creation_error":  h3(func(c *quic.Conn) { uni(c, control); uni(c, control) }),
		"http3_errors closed_critical_stream": h3(func(c *quic.Conn) { uni(c, control).Close() }),
		"http3_errors frame_unexpected": h3(func(c *quic.Conn) {
			stream, err := c.OpenStream()
			if err == nil {
				io.WriteString(stream, "\x00\x01x") // DATA before HEADERS
			}
		}),
		"http3_errors frame_error":          "- quic-go uses other codes",
		"http3_errors id_error":             "- quic-go uses it for pushes, of which there are none",
		"http3_errors settings_error":       "- quic-go uses other codes",
		"http3_errors missing_settings":     h3(func(c *quic.Conn) { uni(c, "\x00\x07\x01\x00") }),
		"http3_errors excessive_load":       "- it takes 400 requests: TestRapidReset of package http3",
		"http3_errors flow_control_error":   packets,
		"http3_errors stream_limit_error":   packets,
		"http3_errors stream_state_error":   packets,
		"http3_errors final_size_error":     packets,
		"http3_errors frame_encoding_error": packets,
		"http3_errors protocol_violation":   packets,
		"http3_errors other":                packets,
	}
}

// tooManyHandshakes has a client say hello more often than a worker takes at once.
func tooManyHandshakes(s *refusing) {
	hello := helloOf(s.t, "app.test")
	first := s.dial(s.secure, false)
	first.Write(hello)
	waitFor(s.t, func() bool { return s.Stats.Handshakes.Open.Load() == 1 })
	for range server.MaxHandshakesPerSource {
		s.dial(s.secure, false).Write(hello)
	}
	io.Copy(io.Discard, first)
}

// deafAfter drops what is sent after some packets.
type deafAfter struct {
	*net.UDPConn
	left atomic.Int32
}

func (d *deafAfter) WriteTo(b []byte, a net.Addr) (int, error) {
	if d.left.Add(-1) < 0 {
		return len(b), nil
	}
	return d.UDPConn.WriteTo(b, a)
}

// quicTimeout has a client fall silent in the middle of its handshake.
func quicTimeout(s *refusing) {
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { u.Close() })
	d := &deafAfter{UDPConn: u}
	d.left.Store(2) // the hello, in two packets
	to, err := net.ResolveUDPAddr("udp4", s.quic)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	go quic.Dial(ctx, struct{ net.PacketConn }{d}, to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
}

// TestRefusedConnections provokes every reason for which a connection ends before or beside
// its requests: none is answered, and one counter moves, by one.
func TestRefusedConnections(t *testing.T) {
	var names []string
	for f := range http2.Faults {
		names = append(names, "http2_errors "+f.String())
	}
	for r := range http2.Refusals {
		names = append(names, "http2_streams_refused "+r.String())
	}
	for _, reason := range server.HandshakeFaults {
		names = append(names, "handshakes "+reason)
	}
	for _, reason := range server.HeaderFaults {
		names = append(names, "proxy_headers "+reason)
	}
	for _, reason := range http3.HandshakeFaults {
		names = append(names, "http3_handshakes "+reason)
	}
	for _, f := range http3.Faults {
		names = append(names, "http3_errors "+f.Token)
	}
	silent, _ := hangs(t)
	rows := breaches()
	for _, name := range names {
		provoke, ok := rows[name].(func(*refusing))
		if !ok {
			if why, _ := rows[name].(string); !strings.HasPrefix(why, "- ") {
				t.Errorf("%q has no row: say how it is provoked, or why not", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			settings := &feedpb.Settings{HeadTimeoutMs: 500, MaxStreams: 2}
			if strings.HasSuffix(name, "limit") {
				settings.HeadTimeoutMs = 60_000
			}
			s := startRefusing(t, []proxytest.Service{
				{Name: "d/ok:80", Path: "/ok", Backends: []string{pod(t, emptied)}}, {Name: "d/silent:80", Path: "/silent", Backends: []string{silent}},
			}, settings, nil)
			before := s.counts()
			provoke(s)
			waitFor(t, func() bool { return s.counts()[name] > 0 })
			moved := s.moved(before)
			delete(moved, "requests forwarded") // that came before
			if len(moved) != 1 || moved[name] != 1 {
				t.Errorf("counted as %v", sorted(moved))
			}
		})
	}
}

// TestRefusedPassthrough: connections that are passed on encrypted and fail are counted and
// logged by the same reason.
func TestRefusedPassthrough(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	silent := rawPod(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	for reason, pod := range map[exchange.Reason]string{
		exchange.NoEndpoint: "", exchange.ConnectFailed: dead, exchange.ConnectTimeout: deaf(t),
		exchange.UpstreamTimeout: silent, exchange.ClientAborted: silent,
	} {
		t.Run(reason.String(), func(t *testing.T) {
			settings := &feedpb.Settings{ConnectTimeoutMs: 200, TunnelTimeoutMs: 200}
			if reason == exchange.ClientAborted {
				settings.TunnelTimeoutMs = 60_000
			}
			s := startRefusing(t, []proxytest.Service{{Name: "d/ok:80", Path: "/ok"}}, settings, func(c *feedpb.Config) {
				c.Services = append(c.Services, &feedpb.Service{Id: 2, Name: "d/through:443"})
				c.Hosts = append(c.Hosts, &feedpb.Host{Name: "through.test", Tls: &feedpb.TLS{PassthroughService: 2, Source: "d/through"}})
			})
			if pod != "" {
				s.Backend(t, 2, pod)
			}
			before := s.counts()
			raw := s.dial(s.secure, false)
			done := make(chan error, 1)
			go func() {
				done <- tls.Client(raw, &tls.Config{ServerName: "through.test", InsecureSkipVerify: true}).Handshake()
			}()
			if reason == exchange.ClientAborted {
				waitFor(t, func() bool { return s.Stats.Passthrough.Open.Load() == 1 })
				reset(raw)
			}
			if err := <-done; err == nil {
				t.Error("the handshake was done")
			}
			moved := s.moved(before)
			if name := fmt.Sprintf("passthrough %s", reason); len(moved) != 1 || moved[name] != 1 {
				t.Errorf("counted as %v, want %s", sorted(moved), name)
			}
			line := s.linesFrom(0, 1)[0]
			if line.Reason != reason.String() || line.Host != "through.test" || line.Proto != "TLS" || line.Status != 0 {
				t.Errorf("logged as %+v", line)
			}
		})
	}
}
