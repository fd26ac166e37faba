package server_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
	"github.com/kerngate/kerngate/userspace/route"
)

// malformed is how a rule of message.Errors is broken.
type malformed struct {
	h1   string          // what is sent over HTTP/1.1
	h2   []string        // a field list of HTTP/2
	h2do func(a *asker2) // or whatever else over HTTP/2
	h3   question        // over HTTP/3, through a client of its own
	pod  string          // it is a pod's fault: what that answers
	path bool            // the reason is bad_path
	why  string          // why it has neither
}

// costly is a path that TestRefusedDetails has an expression for, and is too long for it.
var costly = "/costly" + strings.Repeat("a", 800)

// head2 is a valid field list with some more.
func head2(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", "/ok"}, more...)
}

// open2 sends the head of a request whose body is to come.
func open2(a *asker2, more ...string) {
	a.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block(head2(more...)...), EndHeaders: true})
}

// trailers2 ends a request by these trailers.
func trailers2(more ...string) func(a *asker2) {
	return func(a *asker2) {
		open2(a)
		a.headers(block(more...), true)
	}
}

// many returns n fields.
func many(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("x-%d", i), "v")
	}
	return list
}

func lines1(list []string) string {
	var b strings.Builder
	for i := 0; i < len(list); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", list[i], list[i+1])
	}
	return b.String()
}

// malformations has a row for every error of package message.
func malformations() map[*message.Error]malformed {
	get := func(fields string) string { return "GET /ok HTTP/1.1\r\nHost: app.test\r\n" + fields + "\r\n" }
	chunks := func(body string) string {
		return "POST /ok HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n" + body
	}
	large := strings.Repeat("a", 50<<10)
	return map[*message.Error]malformed{
		message.ErrBadRequestLine:   {h1: "GET\r\n\r\n"},
		message.ErrBadMethod:        {h1: "G(T / HTTP/1.1\r\n\r\n", h2: []string{":method", "G(T", ":scheme", "https", ":authority", "app.test", ":path", "/"}},
		message.ErrBadTarget:        {h1: "GET /\x80 HTTP/1.1\r\nHost: app.test\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", "/\x80"}},
		message.ErrBadVersion:       {h1: "GET / HTTP/x.y\r\n\r\n"},
		message.ErrRequestLineLimit: {h1: "GET /" + large + " HTTP/1.1\r\nHost: app.test\r\n\r\n"},
		message.ErrConnect:          {h1: "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n", h2: []string{":method", "CONNECT", ":authority", "app.test"}},
		message.ErrVersion:          {h1: "GET / HTTP/2.0\r\n\r\n"},
		message.ErrHTTP2Preface:     {why: "it is HTTP/2, or refused by Settings.disable_http2: see TestPrefaceRefused"},
		message.ErrTLS:              {h1: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"},

		message.ErrBareLF:        {h1: "GET / HTTP/1.1\nHost: app.test\n\n"},
		message.ErrBareCR:        {h1: "GET / HTTP/1.1\rX"},
		message.ErrObsFold:       {h1: get(" folded\r\n")},
		message.ErrBadFieldName:  {h1: get("A B: c\r\n"), h2: head2("a b", "c")},
		message.ErrBadFieldValue: {h1: get("A: \x00\r\n"), h2: head2("a", "\x00")},
		message.ErrHeadLimit:     {h1: get("A: " + large + "\r\n"), h2: head2("a", large), h3: question{fields: []string{"A", large}}},
		message.ErrFieldLimit:    {h1: get(lines1(many(600))), h2: head2(many(600)...), h3: question{fields: many(600)}},

		message.ErrBadContentLength:      {h1: get("Content-Length: x\r\n"), h2: head2("content-length", "x")},
		message.ErrSeveralContentLengths: {h1: get("Content-Length: 1\r\nContent-Length: 1\r\n"), h2: head2("content-length", "1", "content-length", "1")},
		message.ErrLengthAndEncoding:     {h1: get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")},
		message.ErrBadTransferEncoding:   {h1: get("Transfer-Encoding: chunked, chunked\r\n")},
		message.ErrTransferCoding:        {h1: get("Transfer-Encoding: gzip, chunked\r\n")},
		message.ErrTransferEncodingOn10:  {h1: "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
		message.ErrMissingHost:           {h1: "GET / HTTP/1.1\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":path", "/"}},
		message.ErrSeveralHosts:          {h1: get("Host: app.test\r\n"), h2: head2("host", "app.test", "host", "app.test")},
		message.ErrBadHost:               {h1: "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":authority", "a b", ":path", "/"}},
		message.ErrBadConnection:         {h1: get("Connection: a b\r\n")},
		message.ErrExpectation:           {h1: get("Expect: more\r\n"), h2: head2("expect", "more"), h3: question{fields: []string{"Expect", "more"}}},

		message.ErrBadStatusLine: {pod: "SSH-2.0-OpenSSH_9.2\r\n\r\n"},
		message.ErrBadStatus:     {why: "over HTTP/1.1 it is bad_status_line; of pods that speak HTTP/2: see package upstream"},

		message.ErrBadChunkSize:        {h1: chunks("zz\r\n")},
		message.ErrBadChunkExtension:   {h1: chunks("5;=\r\n")},
		message.ErrChunkExtensionLimit: {h1: chunks("1;" + large)},
		message.ErrBadChunkEnd:         {h1: chunks("1\r\naXX")},
		message.ErrFramingTrailer:      {h1: chunks("0\r\nContent-Length: 1\r\n\r\n"), h2do: trailers2("content-length", "1")},
		message.ErrTrailerLimit:        {h1: chunks("0\r\nA: " + large), h2do: trailers2("a", large)},

		message.ErrUpperCaseName:     {h2: head2("A", "b")},
		message.ErrConnectionField:   {h2: head2("connection", "close")},
		message.ErrBadTE:             {h2: head2("te", "gzip")},
		message.ErrUnknownPseudo:     {h2: head2(":x", "y")},
		message.ErrPseudoRepeated:    {h2: head2(":path", "/")},
		message.ErrPseudoOrder:       {h2: []string{":method", "GET", "a", "b", ":scheme", "https", ":authority", "app.test", ":path", "/"}},
		message.ErrPseudoMissing:     {h2: []string{":method", "GET", ":authority", "app.test"}},
		message.ErrEmptyPath:         {h2: []string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", ""}},
		message.ErrBadScheme:         {h2: []string{":method", "GET", ":scheme", "ftp", ":authority", "app.test", ":path", "/"}},
		message.ErrAuthorityMismatch: {h2: head2("host", "other.test")},
		message.ErrLengthMismatch:    {h2: head2("content-length", "5")},
		message.ErrLengthOfTunnel:    {h2: []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "app.test", ":path", "/", "content-length", "5"}},
		message.ErrConnectProtocol:   {h2: []string{":method", "CONNECT", ":protocol", "chat", ":scheme", "https", ":authority", "app.test", ":path", "/"}},

		message.ErrStreamDependency: {h2do: func(a *asker2) {
			a.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block(head2()...), EndHeaders: true, EndStream: true,
				Priority: xhttp2.PriorityParam{StreamDep: 1}})
		}},
		message.ErrStreamWindow: {h2do: func(a *asker2) { open2(a); a.WriteWindowUpdate(1, 1<<31-1) }},
		message.ErrStreamClosed: {h2do: func(a *asker2) {
			a.send(question{method: "GET", host: "app.test", path: "/silent"})
			a.WriteData(1, true, []byte("more"))
		}},
		message.ErrStreamFrame: {h2do: func(a *asker2) { open2(a); a.WriteWindowUpdate(1, 0) }},

		message.OfPath(route.ErrBadEscape):     {path: true, h1: "GET /%00 HTTP/1.1\r\nHost: app.test\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", "/%00"}},
		message.OfPath(route.ErrPathEscapes):   {path: true, h1: "GET /../.. HTTP/1.1\r\nHost: app.test\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", "/../.."}, h3: question{path: "/../.."}},
		message.OfPath(route.ErrPathControl):   {path: true, h1: "GET /a%0ab HTTP/1.1\r\nHost: app.test\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", "/a%0ab"}, h3: question{path: "/a%0ab"}},
		message.OfPath(route.ErrPathAmbiguous): {path: true, h1: "GET /a//../b HTTP/1.1\r\nHost: app.test\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", "/a//../b"}, h3: question{path: "/a//../b"}},
		message.ErrPathCost:                    {path: true, h1: "GET " + costly + " HTTP/1.1\r\nHost: app.test\r\n\r\n", h2: []string{":method", "GET", ":scheme", "https", ":authority", "app.test", ":path", costly}, h3: question{path: costly}},
	}
}

// TestRefusedDetails breaks every rule that messages are read by, and compares as TestRefusals.
func TestRefusedDetails(t *testing.T) {
	silent, _ := hangs(t)
	ok := pod(t, emptied)
	rows := malformations()
	s := startRefusing(t, []proxytest.Service{
		{Name: "d/silent:80", Path: "/silent", Backends: []string{silent}}, {Name: "d/costly:80", Path: "/costly(a|b){300}c", Regexp: true, Backends: []string{ok}}, {Name: "d/ok:80", Path: "/ok", Backends: []string{ok}},
	}, nil, nil)
	for _, e := range message.Errors() {
		row, found := rows[e]
		if !found {
			t.Errorf("%s has no row: say how it is provoked", e.Reason)
			continue
		}
		r := refusal{status: e.Status, detail: e.Reason}
		reason := exchange.BadRequest
		if row.path {
			reason = exchange.BadPath
		}
		if row.pod != "" {
			reason, r.status, r.service, r.ask.path = exchange.UpstreamInvalid, 502, to(says(t, row.pod)), "/x"
			t.Run(e.Reason, func(t *testing.T) { r.run(t, reason) })
			continue
		}
		if row.h1+strings.Join(row.h2, "")+row.why == "" && row.h2do == nil {
			t.Errorf("%s: the row says neither how nor why not", e.Reason)
		}
		for _, f := range fronts {
			ask := question{raw: row.h1}
			switch f.protocol {
			case "h1":
				if row.h1 == "" {
					continue
				}
				if strings.Contains(row.h1, " HTTP/1.0\r\n") {
					f.proto = "HTTP/1.0"
				}
			case "h2":
				if row.h2 == nil && row.h2do == nil {
					continue
				}
				ask = question{list: row.h2}
				r.mute = e.Malformed || row.h2do != nil
			case "h3":
				if ask = row.h3; ask.path == "" && ask.fields == nil {
					continue
				}
				r.mute = false
				if ask.path == "" {
					ask.path = "/ok"
				}
				ask = ask.withDefaults()
			}
			if f.protocol == "h1" {
				r.mute = false
			}
			t.Run(e.Reason+"/"+f.name, func(t *testing.T) {
				s.t = t
				a := f.open(s, "app.test")
				lines, before := len(s.lines()), s.counts()
				if a2, ok := a.(*asker2); ok && row.h2do != nil {
					row.h2do(a2)
				} else {
					a.send(ask)
				}
				got := a.reply()
				moved := s.moved(before)
				line := s.linesFrom(lines, 1)[0]
				a.close()
				r.compare(t, reason, f, question{raw: "-"}, got, line)
				if want := "requests " + reason.String(); len(moved) != 1 || moved[want] != 1 {
					t.Errorf("counted as %v, want %s: 1", sorted(moved), want)
				}
			})
		}
	}
}

// TestPrefaceRefused: HTTP/2 where it is switched off is a request that is refused.
func TestPrefaceRefused(t *testing.T) {
	s := startRefusing(t, []proxytest.Service{{Name: "d/ok:80", Path: "/ok", Backends: []string{pod(t, emptied)}}}, &feedpb.Settings{DisableHttp2: true}, nil)
	a := fronts[0].open(s, "app.test")
	before := s.counts()
	a.send(question{raw: xhttp2.ClientPreface})
	got := a.reply()
	moved := s.moved(before)
	refusal{status: 505, detail: message.ErrHTTP2Preface.Reason}.compare(t, exchange.BadRequest, fronts[0], question{raw: "-"}, got, s.linesFrom(0, 1)[0])
	if len(moved) != 1 || moved["requests bad_request"] != 1 {
		t.Errorf("counted as %v", sorted(moved))
	}
}

// TestRefusedLine: the log tells what was asked as far as it could be read, and of a client
// that goes away within its head that it did.
func TestRefusedLine(t *testing.T) {
	s := startRefusing(t, []proxytest.Service{{Name: "d/ok:80", Path: "/ok", Backends: []string{pod(t, emptied)}}}, &feedpb.Settings{HeadTimeoutMs: 200}, nil)
	a := fronts[0].open(s, "app.test")
	a.send(question{raw: "HEAD /asked?q=1 HTTP/1.0\r\nHost: app.test\r\nA: " + strings.Repeat("b", 50<<10) + "\r\n\r\n", method: "HEAD"})
	if got := a.reply(); got.status != 431 || got.body != "" {
		t.Errorf("a HEAD request gets %d %q", got.status, got.body)
	}
	a.close()
	waitFor(t, func() bool { return s.Stats.Active.Load() == 0 })
	if l := s.linesFrom(0, 1)[0]; l.Method != "HEAD" || l.Path != "/asked" || l.Proto != "HTTP/1.0" || l.Status != 431 {
		t.Errorf("logged as %+v", l)
	}
	for i, c := range []struct {
		reason exchange.Reason
		end    func(a asker)
	}{
		{exchange.ClientAborted, asker.leave},
		{exchange.ClientAborted, func(a asker) { a.(*asker1).Conn.Close() }},
		{exchange.ClientTimeout, func(a asker) { io.Copy(io.Discard, a.(*asker1).Conn) }},
	} {
		a := fronts[0].open(s, "app.test")
		before := s.counts()
		a.send(question{raw: "GET /half HTTP/1.1\r\nHost: app.te"})
		if i < 2 {
			waitFor(t, func() bool { return s.Stats.Active.Load() == 1 })
		}
		c.end(a)
		a.close()
		if moved := s.moved(before); len(moved) != 1 || moved["requests "+c.reason.String()] != 1 {
			t.Errorf("%s is counted as %v", c.reason, sorted(moved))
		}
		if l := s.linesFrom(1+i, 1)[0]; l.Path != "/half" || l.Reason != c.reason.String() || l.Status != c.reason.Status() {
			t.Errorf("%s is logged as %+v", c.reason, l)
		}
	}
	// A connection on which nothing is asked is nobody's request.
	before := len(s.lines())
	c := s.dial(s.Address, false)
	c.Close()
	waitFor(t, func() bool { return s.Stats.Open.Load() == 0 })
	if lines := s.lines(); len(lines) != before {
		t.Errorf("logged: %+v", lines[before:])
	}
}
