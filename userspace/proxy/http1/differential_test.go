package http1

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/route"
)

// exception is a difference to another parser that is meant. It names the
// difference by its beginning and the samples by a predicate; all others must
// not differ.
type exception struct {
	reason     string
	difference string
	applies    func(own stream, s sample) bool
}

// excused returns the exception that covers a difference, or nil.
func excused(list []exception, difference string, own stream, s sample) *exception {
	for i := range list {
		if strings.HasPrefix(difference, list[i].difference) && list[i].applies(own, s) {
			return &list[i]
		}
	}
	return nil
}

// goExceptions are the differences to net/http.
var goExceptions = []exception{
	{"a leading empty line, which RFC 9112 section 2.2 asks servers to ignore; ReadRequest does not",
		`refused: malformed HTTP request ""`, func(stream, sample) bool { return true }},
	{"an invalid percent-escape: refused here by route.NormalisePath, not by the parser",
		"refused: parse ", func(own stream, s sample) bool { return targetIsBad(own, s) }},
	{"a connection that is not used again after a 1xx or 204 with a framing that it must not have",
		"keep-alive: false, true", bodilessWithFraming},
}

// nodeExceptions are the differences to llhttp.
var nodeExceptions = []exception{
	{"a method that llhttp does not know",
		"refused: HPE_INVALID_METHOD", func(own stream, s sample) bool { return s.kind == "request" }},
	{"HTTP/1.0 with both keep-alive and close: close is the safer reading",
		"keep-alive: false, true", func(own stream, s sample) bool { return hasOption(own, "keep-alive") && hasOption(own, "close") }},
	{"Proxy-Connection, which is no field of the standard, has no meaning here",
		"keep-alive: false, true", func(own stream, s sample) bool { return strings.Contains(s.input, "Proxy-Connection: keep-alive") }},
	{"a connection that is not used again after a 1xx or 204 with a framing that it must not have",
		"keep-alive: false, true", bodilessWithFraming},
	{"a response to HEAD without framing fields: it has no body that could end with the connection",
		"keep-alive: true, false", func(own stream, s sample) bool { return s.kind == "HEAD" }},
}

// oldNodeExceptions are further ones to llhttp before version 9, as Node.js 18 of Debian 12 has it.
var oldNodeExceptions = []exception{
	{"a body of a 1xx, 204 or 304, which have none (RFC 9112 section 6.3), whatever their framing says",
		`body: "", `, bodiless},
	{"chunks of a 1xx, 204 or 304, which have none",
		"refused: HPE_INVALID_CHUNK_SIZE", bodiless},
}

func bodiless(own stream, s sample) bool {
	m := own.messages[len(own.messages)-1]
	return m.status/100 == 1 || m.status == 204 || m.status == 304
}

func bodilessWithFraming(own stream, s sample) bool {
	m := own.messages[len(own.messages)-1]
	if m.status/100 != 1 && m.status != 204 {
		return false
	}
	for _, line := range m.fields {
		if strings.HasPrefix(line, "content-length: ") && !strings.HasSuffix(line, ": 0") || strings.HasPrefix(line, "transfer-encoding:") {
			return true
		}
	}
	return false
}

// targetIsBad reports whether one of the accepted paths has no normal form.
func targetIsBad(own stream, s sample) bool {
	for _, m := range own.messages {
		path, _, _ := strings.Cut(m.target, "?")
		if _, err := route.NormalisePath(nil, []byte(path)); err == route.ErrBadEscape {
			return true
		}
	}
	return false
}

// hasOption reports whether Connection of the last message names an option.
func hasOption(own stream, option string) bool {
	for _, line := range own.messages[len(own.messages)-1].fields {
		if strings.HasPrefix(line, "connection: ") && strings.Contains(strings.ToLower(line), option) {
			return true
		}
	}
	return false
}

// TestDifferential compares what we make of a corpus, message by message, with
// what net/http and llhttp make of it. What we refuse is refused: others may
// read it. What we accept, they must frame identically, or refuse for one of the
// reasons in the lists above.
func TestDifferential(t *testing.T) {
	samples := corpus()
	node := startNode(t)
	nodeExceptions := nodeExceptions
	if llhttpVersion(t) < 9 {
		nodeExceptions = slices.Concat(nodeExceptions, oldNodeExceptions)
	}
	count := make(map[string]int)
	accepted := 0
	for _, s := range samples {
		own := ownStream(s.kind, []byte(s.input), len(s.input))
		if bytewise := ownStream(s.kind, []byte(s.input), 1); fmt.Sprint(own) != fmt.Sprint(bytewise) {
			t.Errorf("%s %q\nwhole:        %+v\nbyte by byte: %+v", s.kind, s.input, own, bytewise)
		}
		if len(own.messages) > 0 {
			accepted++
		}
		for _, other := range []struct {
			name       string
			stream     stream
			difference string
			exceptions []exception
		}{
			{name: "net/http", stream: goStream(s.kind, []byte(s.input)), exceptions: goExceptions},
			{name: "llhttp", stream: node.stream(t, s.kind, []byte(s.input)), exceptions: nodeExceptions},
		} {
			compare := sameAsGo
			if other.name == "llhttp" {
				compare = sameAsNode
			}
			d := difference(own, other.stream, compare)
			if d == "" {
				continue
			}
			e := excused(other.exceptions, d, own, s)
			if e == nil {
				t.Errorf("%s differs from us: %s\n%s %q\nwe:   %+v\nthey: %+v", other.name, d, s.kind, s.input, own, other.stream)
				continue
			}
			count[other.name+": "+e.reason]++
		}
	}
	t.Logf("%d samples, of which we accept a message in %d", len(samples), accepted)
	for reason, n := range count {
		t.Logf("%4d differ from %s", n, reason)
	}
	for _, list := range [][]exception{goExceptions, nodeExceptions} {
		for _, e := range list {
			if count["net/http: "+e.reason]+count["llhttp: "+e.reason] == 0 {
				t.Errorf("no sample needs the exception %q: remove it", e.reason)
			}
		}
	}
}
