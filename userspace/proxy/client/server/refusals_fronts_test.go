package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	qhttp3 "github.com/quic-go/quic-go/http3"
	"github.com/rs/zerolog"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/http2"
	"github.com/kerngate/kerngate/userspace/proxy/client/http3"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/proxyproto"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// refusing is a proxy that can be asked by every protocol: in clear text, over TLS, behind a
// load balancer that sends PROXY headers, and over QUIC.
type refusing struct {
	*proxytest.Proxy
	t      *testing.T
	secure string // host:port for TLS
	quic   string // host:port for HTTP/3
	http3  http3.Stats
}

// balancerAddress is where connections with a PROXY header come from.
const balancerAddress = "127.0.0.3"

// startRefusing starts it with services of app.test; change may alter the configuration.
func startRefusing(t *testing.T, services []proxytest.Service, settings *feedpb.Settings, change func(*feedpb.Config)) *refusing {
	t.Helper()
	s := &refusing{t: t, Proxy: proxytest.Start(t, nil, nil)}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := sa.(*unix.SockaddrInet4).Port
	s.secure = fmt.Sprintf("127.0.0.1:%d", port)

	if settings == nil {
		settings = &feedpb.Settings{}
	}
	settings.AccessLogSample = 1
	settings.HttpsPorts = []uint32{uint32(port)}
	settings.ProxyHeaderFrom = []string{balancerAddress + "/32"}
	for i := range services {
		services[i].Host = "app.test"
	}
	c := s.Publish(services, settings)
	chain, key := certtest.NewAuthorityOf(certtest.ECDSA, "servers").Pair(certtest.ECDSA, "app.test")
	c.Certificates = append(c.Certificates, &feedpb.Certificate{Id: "d/app", Chain: chain, Key: key})
	c.DefaultCertificate = "d/app"
	if change != nil {
		change(c)
	}
	s.Apply(t, c)
	s.OnLoop(func() { err = s.Server.Listen(fd) })
	if err != nil {
		t.Fatal(err)
	}
	q := http3.New(s.Worker, &s.http3, nil, zerolog.New(zerolog.NewTestWriter(t)))
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err == nil {
		err = q.Listen(socket)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	s.quic = socket.LocalAddr().String()
	return s
}

// counts returns every count of something refused, by the name of the metric and its reason.
// Those that stay are left out.
func (s *refusing) counts() map[string]uint64 {
	all := map[string]uint64{}
	add := func(metric, reason string, n *atomic.Uint64) {
		if v := n.Load(); v > 0 {
			all[metric+" "+reason] = v
		}
	}
	for r := range exchange.Reasons {
		add("requests", r.String(), &s.Metrics.Ended[r])
		add("passthrough", r.String(), &s.Stats.Passthrough.Ended[r])
	}
	for i, reason := range server.HandshakeFaults {
		add("handshakes", reason, &s.Stats.Handshakes.Failed[i])
	}
	for i, reason := range server.HeaderFaults {
		add("proxy_headers", reason, &s.Stats.HeadersRefused[i])
	}
	for f := range http2.Faults {
		add("http2_errors", f.String(), &s.Stats.HTTP2.Errors[f])
	}
	for l := range http2.Limits {
		add("http2_cut", l.String(), &s.Stats.HTTP2.Cut[l])
	}
	for r := range http2.Refusals {
		add("http2_streams_refused", r.String(), &s.Stats.HTTP2.Refused[r])
	}
	for i, reason := range http3.HandshakeFaults {
		add("http3_handshakes", reason, &s.http3.HandshakesFailed[i])
	}
	for i, f := range http3.Faults {
		add("http3_errors", f.Token, &s.http3.Errors[i])
	}
	add("http3", "refused", &s.http3.Refused)
	add("accept", "error", &s.Stats.AcceptErrors)
	add("accept", "full", &s.Stats.Full)
	return all
}

// moved waits until a count has moved since before, and returns by how much each has.
func (s *refusing) moved(before map[string]uint64) map[string]uint64 {
	s.t.Helper()
	waitFor(s.t, func() bool { return !maps.Equal(before, s.counts()) })
	for range 3 { // whatever else follows from it
		s.OnLoop(func() {})
	}
	delta := s.counts()
	for name, n := range delta {
		if delta[name] = n - before[name]; delta[name] == 0 {
			delete(delta, name)
		}
	}
	return delta
}

// logLine is what an access log's line says that the tests look at.
type logLine struct {
	Method, Path, Host, Proto, Reason, Detail string
	Status                                    int
	Service                                   string
}

func (s *refusing) lines() (all []logLine) {
	s.t.Helper()
	for line := range strings.Lines(s.Log.String()) {
		var l logLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		all = append(all, l)
	}
	return all
}

// linesFrom waits for n lines beyond the first ones, and returns them.
func (s *refusing) linesFrom(first, n int) []logLine {
	s.t.Helper()
	waitFor(s.t, func() bool { return strings.Count(s.Log.String(), "\n") >= first+n })
	return s.lines()[first:]
}

// question is a request, in whatever protocol.
type question struct {
	method, path, host string // GET, /, app.test
	fields             []string
	body               string
	length             string // Content-Length, "": that of body
	raw                string // sent as it is over HTTP/1.1, in place of all the above
	list               []string
	unsized            bool // the body has no Content-Length
	gone               bool // the client goes away once the request is at the pod
}

func (q question) withDefaults() question {
	if q.method == "" {
		q.method = "GET"
	}
	if q.host == "" {
		q.host = "app.test"
	}
	if q.length == "" && !q.unsized && (q.body != "" || q.method == "POST") {
		q.length = fmt.Sprint(len(q.body))
	}
	return q
}

// reply is what came back. Status 0: nothing but the end of the connection or stream.
type reply struct {
	status int
	header http.Header
	body   string
}

// asker is a client's connection that stands and has asked nothing.
type asker interface {
	send(q question) // does not wait
	reply() reply
	leave() // breaks off
	close()
}

// front is a way to reach the proxy.
type front struct {
	name     string
	protocol string // h1, h2 or h3
	tls      bool
	proto    string // in the access log
	open     func(s *refusing, host string) asker
}

var fronts = []front{
	{"HTTP/1.1", "h1", false, "HTTP/1.1", func(s *refusing, _ string) asker { return newAsker1(s, s.dial(s.Address, false)) }},
	{"HTTP/1.1 over TLS", "h1", true, "HTTP/1.1", func(s *refusing, host string) asker { return newAsker1(s, s.dialTLS(host, "http/1.1", false)) }},
	{"HTTP/1.1 with a PROXY header", "h1", false, "HTTP/1.1", func(s *refusing, _ string) asker { return newAsker1(s, s.dial(s.Address, true)) }},
	{"HTTP/1.1 over TLS with a PROXY header", "h1", true, "HTTP/1.1", func(s *refusing, host string) asker { return newAsker1(s, s.dialTLS(host, "http/1.1", true)) }},
	{"HTTP/2", "h2", false, "HTTP/2", func(s *refusing, _ string) asker { return newAsker2(s, s.dial(s.Address, false), "http") }},
	{"HTTP/2 over TLS", "h2", true, "HTTP/2", func(s *refusing, host string) asker { return newAsker2(s, s.dialTLS(host, "h2", false), "https") }},
	{"HTTP/2 with a PROXY header", "h2", false, "HTTP/2", func(s *refusing, _ string) asker { return newAsker2(s, s.dial(s.Address, true), "http") }},
	{"HTTP/3", "h3", true, "HTTP/3", newAsker3},
}

// dial connects, behind is whether as the load balancer that sends a PROXY header.
func (s *refusing) dial(address string, behind bool) net.Conn {
	s.t.Helper()
	var d net.Dialer
	if behind {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(balancerAddress)}
	}
	accepted := s.Stats.Accepted.Load()
	c, err := d.Dial("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	waitFor(s.t, func() bool { return s.Stats.Accepted.Load() > accepted })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if behind {
		c.Write(proxyproto.Append(nil, proxyproto.Header{Version: 2, Source: netip.MustParseAddrPort("192.0.2.7:1234"),
			Destination: netip.MustParseAddrPort(address)}))
	}
	return c
}

func (s *refusing) dialTLS(host, protocol string, behind bool) net.Conn {
	s.t.Helper()
	c := tls.Client(s.dial(s.secure, behind), &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := c.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// reset breaks a connection off.
func reset(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

type asker1 struct {
	net.Conn
	t      testing.TB
	in     *bufio.Reader
	method string
}

func newAsker1(s *refusing, c net.Conn) asker {
	return &asker1{Conn: c, t: s.t, in: bufio.NewReader(c)}
}

func (a *asker1) send(q question) {
	a.method = q.method
	if q.raw == "" {
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, q.path, q.host)
		for i := 0; i < len(q.fields); i += 2 {
			fmt.Fprintf(&b, "%s: %s\r\n", q.fields[i], q.fields[i+1])
		}
		if q.length != "" {
			fmt.Fprintf(&b, "Content-Length: %s\r\n", q.length)
		}
		if q.unsized {
			q.body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(q.body), q.body)
			b.WriteString("Transfer-Encoding: chunked\r\n")
		}
		q.raw = b.String() + "\r\n" + q.body
	}
	io.WriteString(a.Conn, q.raw) // the proxy may have answered and closed before it is all written
}

func (a *asker1) reply() reply {
	r, err := http.ReadResponse(a.in, &http.Request{Method: a.method})
	if err != nil {
		return reply{}
	}
	b, _ := io.ReadAll(r.Body)
	return reply{r.StatusCode, r.Header, string(b)}
}

func (a *asker1) leave() { reset(a.Conn) }
func (a *asker1) close() { a.Conn.Close() }

type asker2 struct {
	net.Conn
	t testing.TB
	*xhttp2.Framer
	scheme string
}

func newAsker2(s *refusing, c net.Conn, scheme string) asker {
	a := &asker2{Conn: c, t: s.t, Framer: xhttp2.NewFramer(c, c), scheme: scheme}
	a.AllowIllegalWrites = true
	a.ReadMetaHeaders, a.MaxHeaderListSize = hpack.NewDecoder(4096, nil), 4<<20
	io.WriteString(c, xhttp2.ClientPreface)
	a.WriteSettings()
	for { // so that nothing of this is under way later on
		f, err := a.ReadFrame()
		if err != nil {
			s.t.Fatal(err)
		}
		if f, ok := f.(*xhttp2.SettingsFrame); ok && !f.IsAck() {
			a.WriteSettingsAck()
			return a
		}
	}
}

// block encodes a list of names and values.
func block(list ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(list); i += 2 {
		e.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	return b.Bytes()
}

func (a *asker2) send(q question) {
	list := q.list
	if list == nil {
		list = []string{":method", q.method, ":scheme", a.scheme, ":authority", q.host, ":path", q.path}
		for i, f := range q.fields {
			if i%2 == 0 {
				f = strings.ToLower(f)
			}
			list = append(list, f)
		}
		if q.length != "" {
			list = append(list, "content-length", q.length)
		}
	}
	a.headers(block(list...), q.length == "" && q.body == "" || q.length == "0")
	if q.body != "" {
		a.WriteData(1, q.unsized || q.length == fmt.Sprint(len(q.body)), []byte(q.body))
	}
}

// headers sends a header block in as many frames as it takes.
func (a *asker2) headers(b []byte, last bool) {
	first := b[:min(len(b), 16<<10)]
	a.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndStream: last, EndHeaders: len(first) == len(b)})
	for b = b[len(first):]; len(b) > 0; b = b[len(first):] {
		first = b[:min(len(b), 16<<10)]
		a.WriteContinuation(1, len(first) == len(b), first)
	}
}

func (a *asker2) reply() (r reply) {
	r.header = http.Header{}
	for {
		f, err := a.ReadFrame()
		if err != nil {
			return r
		}
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame: // trailers are put with the other fields
			for _, f := range f.Fields {
				if f.Name == ":status" {
					fmt.Sscan(f.Value, &r.status)
				} else {
					r.header.Add(f.Name, f.Value)
				}
			}
			if f.StreamEnded() {
				return r
			}
		case *xhttp2.DataFrame:
			if r.body += string(f.Data()); f.StreamEnded() {
				return r
			}
		case *xhttp2.RSTStreamFrame, *xhttp2.GoAwayFrame:
			return r
		}
	}
}

func (a *asker2) leave() { a.WriteRSTStream(1, xhttp2.ErrCodeCancel) }
func (a *asker2) close() { a.Conn.Close() }

type asker3 struct {
	t         testing.TB
	transport *qhttp3.Transport
	host      string
	address   string
	ctx       context.Context
	leaveNow  context.CancelFunc
	came      chan reply
	rest      *io.PipeWriter
}

func newAsker3(s *refusing, host string) asker {
	a := &asker3{t: s.t, host: host, address: s.quic, came: make(chan reply, 1)}
	a.ctx, a.leaveNow = context.WithTimeout(context.Background(), 20*time.Second)
	a.transport = &qhttp3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: host}, DisableCompression: true}
	s.t.Cleanup(func() { a.leaveNow(); a.transport.Close() })
	// So that its connection stands.
	before := len(s.lines())
	a.send(question{path: "/ok"}.withDefaults())
	if r := a.reply(); r.status == 0 {
		s.t.Fatal("HTTP/3 does not answer")
	}
	s.linesFrom(before, 1)
	return a
}

func (a *asker3) send(q question) {
	var body io.Reader = strings.NewReader(q.body)
	if q.length != "" && q.length != fmt.Sprint(len(q.body)) {
		r, w := io.Pipe()
		a.rest = w
		body = r
		go io.WriteString(w, q.body)
	}
	r, err := http.NewRequestWithContext(a.ctx, q.method, "https://"+a.address+q.path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Host = q.host
	if q.unsized {
		r.ContentLength = -1
	}
	if q.length != "" {
		fmt.Sscan(q.length, &r.ContentLength)
	}
	for i := 0; i < len(q.fields); i += 2 {
		r.Header.Add(q.fields[i], q.fields[i+1])
	}
	go func() {
		resp, err := a.transport.RoundTrip(r)
		if err != nil {
			a.came <- reply{}
			return
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		a.came <- reply{resp.StatusCode, resp.Header, string(b)}
	}()
}

func (a *asker3) reply() reply { return <-a.came }
func (a *asker3) leave()       { a.leaveNow() }
func (a *asker3) close() {
	a.leaveNow()
	if a.rest != nil {
		a.rest.CloseWithError(io.ErrClosedPipe)
	}
	a.transport.Close()
}

// sorted lists what moved.
func sorted(m map[string]uint64) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s: %d", name, m[name]))
	}
	return list
}
