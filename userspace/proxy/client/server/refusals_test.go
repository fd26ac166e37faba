package server_test

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// refusal is a reason for which a request ends otherwise than with a pod's whole response: how
// it is provoked, and what the client and the log must say.
type refusal struct {
	ask    question
	status int  // that the client gets, or that the log has
	mute   bool // the client gets no status
	detail string
	never  map[string]string // fronts (h1, h2, h3, clear, tls, or a name) for which it cannot happen, and why

	service  proxytest.Service // of path /x; without a path: dead
	settings *feedpb.Settings
	change   func(*feedpb.Config)
	site     func(s *refusing)
	came     chan bool // told by the pod when a request has come
	// before prepares, once the client's connection stands; after undoes that. Both return how
	// many lines of the log come of it.
	before func(s *refusing, f front) (after func() int, lines int)
}

// emptied reads a request's body and answers 200.
func emptied(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }

// h2c is a pod that speaks HTTP/2 and does with a request what answer says.
func h2c(t testing.TB, answer func(f *xhttp2.Framer, id uint32)) string {
	return rawPod(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface)))
		f := xhttp2.NewFramer(c, c)
		f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := frame.(*xhttp2.HeadersFrame); ok {
				answer(f, h.StreamID)
			}
		}
	})
}

// says is a pod that answers the first request with these bytes and closes.
func says(t testing.TB, response string) string {
	return rawPod(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, response)
	})
}

// hangs is a pod that reads and never answers. It tells when a request has come.
func hangs(t testing.TB) (address string, came chan bool) {
	came = make(chan bool, 1000)
	return rawPod(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err == nil {
			came <- true
		}
		io.Copy(io.Discard, r)
	}), came
}

func to(backends ...string) proxytest.Service { return proxytest.Service{Backends: backends} }

func by(u *feedpb.Upstream, backends ...string) proxytest.Service {
	return proxytest.Service{Backends: backends, Upstream: u}
}

func under(p *feedpb.Policy, backends ...string) proxytest.Service {
	return proxytest.Service{Backends: backends, Policy: p}
}

// pending keeps a request that the pod does not answer under way.
func pending(came chan bool) func(s *refusing, f front) (func() int, int) {
	return func(s *refusing, f front) (func() int, int) {
		a := f.open(s, "app.test")
		lines := 0
		if f.protocol == "h3" {
			lines = 1 // that its connection stands
		}
		a.send(question{path: "/x"}.withDefaults())
		<-came
		return func() int {
			a.leave()
			return 1
		}, lines
	}
}

const readSlowly = "these clients read at once: TestSlowReaders has others"

// refusals has a row for every exchange.Reason but Forwarded.
func refusals(t *testing.T) map[exchange.Reason]refusal {
	passes, overTLS := "over TLS it is let through", "in clear text there is nothing to compare with"
	http2 := &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2}
	pod200 := says(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	timeout, _ := hangs(t)
	silent, came := hangs(t)
	leaving, gone := hangs(t)
	asked := func(status int, signIn string) refusal {
		gate := pod(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) })
		return refusal{
			service: under(&feedpb.Policy{Access: &feedpb.Access{External: &feedpb.ExternalAuth{
				To: &feedpb.Destination{Service: 60, Authority: "gate.test", Path: "/"}, SignIn: signIn}}}, pod200),
			site: func(s *refusing) { s.Backend(t, 60, gate) },
		}
	}
	with := func(r refusal, change func(*refusal)) refusal { change(&r); return r }
	var memory atomic.Uint64

	return map[exchange.Reason]refusal{
		exchange.NoRoute:         {status: 404, ask: question{path: "/nowhere"}},
		exchange.NoService:       {status: 503, change: func(c *feedpb.Config) { c.Hosts[0].Routes[1].Service = 0 }},
		exchange.NoEndpoint:      {status: 503, service: to()},
		exchange.ConnectFailed:   {status: 502, service: to(dead)},
		exchange.ConnectTimeout:  {status: 504, service: to(deaf(t)), settings: &feedpb.Settings{ConnectTimeoutMs: 200}},
		exchange.UpstreamClosed:  {status: 502, service: to(says(t, ""))},
		exchange.UpstreamInvalid: {status: 502, detail: "bad_status_line", service: to(says(t, "SSH-2.0-OpenSSH_9.2\r\n\r\n"))},
		exchange.UpstreamTimeout: {status: 504, service: to(timeout), settings: &feedpb.Settings{ResponseTimeoutMs: 200}},
		exchange.UpstreamAborted: {status: 502, service: to(says(t, "HTTP/1.1 200 OK\r\n"))},
		exchange.ClientAborted:   {status: 499, mute: true, service: to(leaving), ask: question{gone: true}, came: gone},
		exchange.ClientTimeout: {status: 408, service: to(timeout), settings: &feedpb.Settings{BodyTimeoutMs: 200},
			ask: question{method: "POST", length: "10", body: "x"}},
		exchange.BadRequest: {status: 417, detail: "unknown_expectation", ask: question{fields: []string{"Expect", "the-unexpected"}}},
		exchange.BodyTooLarge: {status: 413, service: to(pod200), settings: &feedpb.Settings{MaxBodyBytes: 10},
			ask: question{method: "POST", body: "hello, world"}},
		exchange.LengthRequired: {status: 411, service: to(pod200), settings: &feedpb.Settings{RequestBufferBytes: new(uint64(10))},
			ask: question{method: "POST", body: "hello, world", unsized: true}},
		exchange.BuffersFull: {status: 503, service: to(pod200), settings: &feedpb.Settings{RequestBufferBytes: new(uint64(1 << 20)), RequestBufferTotal: 1},
			ask: question{method: "POST", body: "hello, world", unsized: true}},
		exchange.SpoolFailed: {status: 507, detail: "enospc", service: to(pod200), settings: &feedpb.Settings{RequestBufferBytes: new(uint64(10))},
			ask: question{method: "POST", body: "hello, world", unsized: true}, site: func(s *refusing) {
				s.Spool(t, 1<<20).SetWrite(func(int, [][]byte, int64) (int, error) { return 0, unix.ENOSPC })
			}},
		exchange.BadPath: {status: 400, detail: "path_above_root", ask: question{path: "/a/../../x"}},
		exchange.Overloaded: {status: 503, service: to(pod200), before: func(s *refusing, _ front) (func() int, int) {
			var was unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
				t.Fatal(err)
			}
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}); err != nil {
				t.Fatal(err)
			}
			restore := func() int {
				if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
					t.Fatal(err)
				}
				return 0
			}
			s.t.Cleanup(func() { restore() })
			return restore, 0
		}},
		exchange.Crashed: {status: 500, mute: true, service: to(pod200), before: func(s *refusing, _ front) (func() int, int) {
			var b *balance.Balancer
			s.Faulty = true
			s.OnLoop(func() { b, s.Worker.Balancer = s.Worker.Balancer, nil })
			return func() int {
				s.OnLoop(func() { s.Worker.Balancer = b })
				return 0
			}, 0
		}},
		exchange.UpstreamReset: {status: 502, detail: "internal_error", service: by(http2, h2c(t, func(f *xhttp2.Framer, id uint32) { f.WriteRSTStream(id, xhttp2.ErrCodeInternal) }))},
		exchange.UpstreamRefused: {status: 503, detail: "refused_stream",
			service: by(http2, h2c(t, func(f *xhttp2.Framer, id uint32) { f.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream) }))},
		exchange.UpstreamProtocol: {status: 502, detail: "not_http2", service: by(http2, says(t, "HTTP/1.1 400 Bad Request\r\n\r\n"))},
		exchange.NoWebSocket: {status: 501, service: by(http2, h2c(t, func(*xhttp2.Framer, uint32) {})),
			never: map[string]string{"h3": "WebSockets over HTTP/3 are refused before"},
			ask: question{fields: []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version", "13"},
				list: []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "app.test", ":path", "/x", "sec-websocket-version", "13"}}},
		exchange.UpstreamTLS: {status: 502, detail: "handshake_failed", service: by(&feedpb.Upstream{Tls: &feedpb.UpstreamTLS{}}, says(t, "HTTP/1.1 400 Bad Request\r\n\r\n"))},
		exchange.UpstreamUntrusted: {status: 502, detail: "certificate_of_unknown_authority", service: by(&feedpb.Upstream{Tls: &feedpb.UpstreamTLS{Verify: true, Authority: "d/clients", ServerName: "127.0.0.1"}}, tlsPod(t)),
			change: func(c *feedpb.Config) {
				c.Authorities = append(c.Authorities, &feedpb.Authority{Id: "d/clients", Certificates: certtest.NewAuthority("clients").PEM()})
			}},
		exchange.Misdirected: {status: 421, ask: question{host: "other.test"}, never: map[string]string{"clear": overTLS}, change: func(c *feedpb.Config) {
			chain, key := certtest.NewAuthorityOf(certtest.ECDSA, "servers").Pair(certtest.ECDSA, "other.test")
			c.Certificates = append(c.Certificates, &feedpb.Certificate{Id: "d/other", Chain: chain, Key: key})
			c.Hosts = append(c.Hosts, &feedpb.Host{Name: "other.test", Tls: &feedpb.TLS{Certificates: []string{"d/other"}}, Routes: c.Hosts[0].Routes})
		}},
		exchange.ClientCertificate: {status: 400, change: clients("")},
		exchange.ErrorPage:         {status: 302, change: clients("https://help.test/"), never: map[string]string{"clear": "no page: client_certificate"}},
		exchange.RedirectHTTPS: {status: 308, never: map[string]string{"tls": passes},
			change: func(c *feedpb.Config) { c.Hosts[0].Routes[1].RedirectHttps = true }},
		exchange.RuleAnswered: {status: 301, service: under(&feedpb.Policy{Redirects: []*feedpb.Redirect{{Status: 301, Target: "https://new.test/"}}})},
		exchange.RewriteLoop:  {status: 500, service: under(&feedpb.Policy{Steps: []*feedpb.Step{{Op: feedpb.Step_REWRITE, Pattern: "^(.*)$", Value: "$1/y", Then: feedpb.Step_ROUTE}}})},
		exchange.RateLimited: {status: 429, service: under(&feedpb.Policy{Limits: &feedpb.Limits{Status: 429, Scope: "a", Rates: []*feedpb.Rate{{Requests: 1, PeriodMs: 600000, Burst: 1}}}}),
			before: func(s *refusing, f front) (func() int, int) {
				lines := 0
				for range 3 {
					a := f.open(s, "app.test")
					a.send(question{path: "/x"}.withDefaults())
					a.reply()
					a.close()
					if lines++; f.protocol == "h3" {
						lines++
					}
				}
				return nil, lines
			}},
		exchange.ConnectionLimited: {status: 429, service: under(&feedpb.Policy{Limits: &feedpb.Limits{Status: 429, Scope: "a", Connections: 1}}, silent), before: pending(came)},
		exchange.SourceDenied:      {status: 403, service: under(&feedpb.Policy{Access: &feedpb.Access{Allow: []string{"203.0.113.0/24"}}})},
		exchange.Unauthorized:      {status: 401, service: under(&feedpb.Policy{Access: &feedpb.Access{Basic: &feedpb.BasicAuth{Realm: "r", Users: []byte("ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")}}})},
		exchange.AccessClosed:      {status: 503, service: under(&feedpb.Policy{Access: &feedpb.Access{Closed: "no Secret"}})},
		exchange.SignIn:            with(asked(401, "https://login.test/"), func(r *refusal) { r.status = 302 }),
		exchange.ExternalDenied:    with(asked(403, ""), func(r *refusal) { r.status = 403 }),
		exchange.ExternalFailed:    with(asked(500, ""), func(r *refusal) { r.status, r.detail = 500, "status" }),
		exchange.Intercepted: {status: 404, service: under(&feedpb.Policy{ErrorPages: &feedpb.ErrorPages{Status: []uint32{404}, Service: 61, Namespace: "d", Ingress: "i"}},
			says(t, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))},
		exchange.PodsBusy:   {status: 503, detail: "queue_full", service: proxytest.Service{Backends: []string{silent}, MaxConnections: 1}, before: pending(came)},
		exchange.ClientSlow: {status: 200, never: map[string]string{"h1": readSlowly, "h2": readSlowly, "h3": readSlowly}},
		exchange.Loop:       {status: 508, ask: question{path: "/x", fields: []string{"X-Kerngate-Pass", string(config.PassToken(bytes.Repeat([]byte{7}, 32))) + ";5"}}},
		exchange.Shed: {status: 503,
			site: func(s *refusing) {
				s.Worker.Overload.MemoryOf = func() (uint64, uint64) { return memory.Load(), 100 }
				watch(t, s.Proxy)
			},
			before: func(s *refusing, _ front) (func() int, int) {
				memory.Store(100)
				waitFor(t, func() bool { return s.Worker.Overload.Refused() == 1 })
				return func() int {
					memory.Store(0)
					waitFor(t, func() bool { return s.Worker.Overload.Refused() == 0 })
					return 0
				}, 0
			}},
	}
}

// clients has app.test ask for a client certificate.
func clients(page string) func(*feedpb.Config) {
	authority := certtest.NewAuthority("clients").PEM()
	return func(c *feedpb.Config) {
		c.Authorities = append(c.Authorities, &feedpb.Authority{Id: "d/clients", Certificates: authority})
		c.Hosts[0].Tls = &feedpb.TLS{Client: &feedpb.ClientAuth{Authority: "d/clients", Depth: 1, ErrorPage: page}}
	}
}

// tlsPod is a pod that speaks TLS with a certificate that nobody knows.
func tlsPod(t *testing.T) string {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestRefusals provokes every reason for which a request can end, by every protocol and front
// for which it can happen, and compares what the client got, the access log and the counters:
// they agree, and one counter moves, by one.
func TestRefusals(t *testing.T) {
	rows := refusals(t)
	for reason := exchange.Forwarded + 1; reason < exchange.Reasons; reason++ {
		row, ok := rows[reason]
		if !ok {
			t.Errorf("%s has no row: say how it is provoked", reason)
			continue
		}
		t.Run(reason.String(), func(t *testing.T) {
			row.run(t, reason)
		})
	}
}

func (row refusal) run(t *testing.T, reason exchange.Reason) {
	if row.service.Path == "" {
		row.service.Path = "/x"
	}
	row.service.Name = "d/x:80"
	ok := proxytest.Service{Name: "d/ok:80", Path: "/ok", Backends: []string{pod(t, emptied)}}
	s := startRefusing(t, []proxytest.Service{ok, row.service}, row.settings, row.change)
	if row.site != nil {
		row.site(s)
	}
	if row.ask.path == "" {
		row.ask.path = "/x"
	}
	ask := row.ask.withDefaults()
	for _, f := range fronts {
		if row.excuse(f) != "" {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			s.t = t
			a := f.open(s, "app.test")
			lines := len(s.lines())
			var after func() int
			if row.before != nil {
				var more int
				after, more = row.before(s, f)
				lines += more
				s.linesFrom(lines, 0)
			}
			before := s.counts()
			a.send(ask)
			if ask.gone {
				<-row.came
				a.leave()
			}
			var got reply
			if !ask.gone {
				got = a.reply()
			}
			moved := s.moved(before)
			line := s.linesFrom(lines, 1)[0]
			a.close()
			if after != nil {
				s.linesFrom(lines+1, after())
			}
			row.compare(t, reason, f, ask, got, line)
			if want := "requests " + reason.String(); len(moved) != 1 || moved[want] != 1 {
				t.Errorf("counted as %v, want %s: 1", sorted(moved), want)
			}
		})
	}
}

// excuse returns why the row cannot happen there.
func (row refusal) excuse(f front) string {
	kind := "clear"
	if f.tls {
		kind = "tls"
	}
	return row.never[f.protocol] + row.never[kind] + row.never[f.name]
}

func (row refusal) compare(t *testing.T, reason exchange.Reason, f front, ask question, got reply, line logLine) {
	t.Helper()
	wire := row.status
	if row.mute {
		wire = 0
	}
	if got.status != wire {
		t.Errorf("the client got status %d, want %d: %s", got.status, wire, got.body)
	}
	if line.Status != row.status || line.Reason != reason.String() || line.Detail != row.detail || line.Proto != f.proto {
		t.Errorf("logged as %+v, want status %d, reason %s, detail %q, %s", line, row.status, reason, row.detail, f.proto)
	}
	if ask.raw == "" && ask.list == nil && (line.Method != ask.method || line.Host != ask.host || line.Path != ask.path) {
		t.Errorf("the log says %s %s %s, asked was %s %s %s", line.Method, line.Host, line.Path, ask.method, ask.host, ask.path)
	}
	if wire == 0 {
		return
	}
	for name, want := range map[string]string{"Server": "kerngate"} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	if got.header.Get("Date") == "" {
		t.Errorf("no Date in %v", got.header)
	}
	bodiless := reason == exchange.RuleAnswered || reason == exchange.SignIn || reason == exchange.Unauthorized
	token := reason.String() + ": "
	if row.detail != "" && !strings.Contains(got.body, "("+row.detail+")") || !bodiless && !strings.HasPrefix(got.body, token) {
		t.Errorf("the body is %q, want %s ... (%s)", got.body, token, row.detail)
	}
	if row.status == http.StatusServiceUnavailable && got.header.Get("Retry-After") == "" {
		t.Errorf("503 without Retry-After: %v", got.header)
	}
	if row.status/100 == 3 && got.header.Get("Location") == "" {
		t.Errorf("%d without Location: %v", row.status, got.header)
	}
}
