// Package differential asks Kerngate and nginx the same. Each case is an Ingress with
// annotations of ingress-nginx, read and served as the agent and proxy do, and the server
// block that ingress-nginx's template makes of it, served by Debian's nginx. What clients
// and pods see of both must be the same, or differ as the case says it does.
package differential

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// comparison is one configuration and what is asked of it.
type comparison struct {
	name      string   // the host is NAME.test
	ingresses []string // manifests; see ingress
	server    string   // body of nginx's server block; @SERVICE stands for what proxies to it
	requests  []request
	copies    int // pods that get the request; 0: as many as there are when it is answered
}

// request is what a client sends, line by line: method and target, then fields; after an
// empty line the body. Host is the case's unless it says otherwise.
type request struct {
	text string
	// differs says why the answers differ, as they must then: a difference that is gone
	// is to be taken out.
	differs string
}

func ask(texts ...string) (out []request) {
	for _, text := range texts {
		out = append(out, request{text: text})
	}
	return out
}

func differing(why string, texts ...string) (out []request) {
	for _, text := range texts {
		out = append(out, request{text, why})
	}
	return out
}

// send sends a request and returns what the client sees.
func (r request) send(t *testing.T, address, host, id string) string {
	t.Helper()
	head, body, _ := strings.Cut(r.text, "\n\n")
	lines := strings.Split(head, "\n")
	if !strings.Contains(head, "\nHost: ") {
		lines = append(lines, "Host: "+host)
	}
	if body != "" && !strings.Contains(head, "Transfer-Encoding:") {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	lines[0] += " HTTP/1.1"
	lines = append(lines, testID+": "+id, "Connection: close")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(r.text, " ")
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, &http.Request{Method: method})
	for err == nil && response.StatusCode/100 == 1 {
		response, err = http.ReadResponse(in, &http.Request{Method: method})
	}
	if err != nil {
		return "no response"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "broken response"
	}
	return describe(response, text)
}

// shown are the fields of responses that are compared, and all whose names begin with one
// of shownPrefixes.
var (
	shown         = []string{"Location", "Refresh", "Set-Cookie", "Vary", "Www-Authenticate", "Content-Type", "Content-Encoding", "Cache-Control", "Etag", "Link"}
	shownPrefixes = []string{"Access-Control-", "X-"}
)

// describe is what is compared of a response: status, fields, and the body that a pod sent.
func describe(r *http.Response, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "status %d\n", r.StatusCode)
	ofPod := r.Header.Get("X-Pod") != ""
	for _, name := range slices.Sorted(mapKeys(r.Header)) {
		wanted := slices.Contains(shown, name) || slices.ContainsFunc(shownPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if !wanted || !ofPod && (name == "Content-Type" || name == "X-Content-Type-Options") { // of the proxies' own pages
			continue
		}
		for _, v := range r.Header[name] {
			if v = normal(name, v); v != "" {
				fmt.Fprintf(&b, "%s: %s\n", name, v)
			}
		}
	}
	if ofPod && !bytes.HasPrefix(body, []byte("(page)")) {
		fmt.Fprintf(&b, "body %q\n", body)
	}
	return b.String()
}

// normal takes out of a value what is free to differ.
func normal(name, value string) string {
	switch name {
	case "Www-Authenticate": // RFC 7617 allows to say the charset
		return strings.TrimSuffix(value, `, charset="UTF-8"`)
	case "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Expose-Headers", "Vary": // lists
		words := strings.FieldsFunc(value, func(c rune) bool { return c == ',' || c == ' ' })
		if name == "Vary" { // Kerngate says that CORS depends on the origin, as the Fetch standard asks
			words = slices.DeleteFunc(words, func(word string) bool { return word == "Origin" })
		}
		return strings.Join(words, ", ")
	}
	return value
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestDifferential compares all cases.
func TestDifferential(t *testing.T) {
	if missing := nginxMissing(); missing != "" {
		skip(t, missing)
	}
	pods := startPods(t)
	all := cases()
	ours := startKerngate(t, pods, all)
	theirs := startNginx(t, pods, all)
	compared := 0
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			for i, r := range c.requests {
				compared++
				id := fmt.Sprintf("%s-%d", c.name, i)
				host := c.name + ".test"
				got := r.send(t, ours, host, id+"-k") + pods.received(id+"-k", ours, c.copies)
				want := r.send(t, theirs, host, id+"-n") + pods.received(id+"-n", theirs, c.copies)
				switch {
				case got == want && r.differs != "":
					t.Errorf("%s\n\nboth answer the same, but are said to differ: %s", r.text, r.differs)
				case got != want && r.differs == "":
					t.Errorf("%s\n\nKerngate:\n%s\nnginx:\n%s", r.text, got, want)
				}
			}
		})
	}
	ofSnippets := 0
	for _, c := range snippets() {
		ofSnippets += len(c.requests)
	}
	t.Logf("%d comparisons in %d cases, %d of them with nginx running the same snippet", compared, len(all), ofSnippets)
	if ofSnippets < 200 || compared < ofSnippets+100 {
		t.Errorf("%d comparisons, %d of snippets, want at least 100 others and 200 of snippets", compared, ofSnippets)
	}
}
