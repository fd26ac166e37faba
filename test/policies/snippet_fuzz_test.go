package policies

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// snippetSite is a proxy with one Ingress that has generated snippets, beside which /admin is
// refused to everybody.
type snippetSite struct {
	proxy *proxytest.Proxy
	pod   *rawPod
}

func newSnippetSite(t testing.TB) *snippetSite {
	pod := startRawPod(t)
	return &snippetSite{proxytest.Start(t, []proxytest.Service{{Name: "default/web:80", Path: "/", Backends: []string{pod.address}}}, nil), pod}
}

// snippetWriter makes a snippet of the choices that bytes stand for.
type snippetWriter struct {
	choices []byte
	literal string // hostile text, which stands in values
	out     strings.Builder
}

func (w *snippetWriter) pick(from ...string) string {
	if len(w.choices) == 0 {
		return from[0]
	}
	c := w.choices[0]
	w.choices = w.choices[1:]
	return from[int(c)%len(from)]
}

// value is the value of a header, a variable or an answer: all that a client has a say in.
func (w *snippetWriter) value() string {
	part := func() string {
		return w.pick("v", "$arg_bad", "$http_bad", "$cookie_bad", "$uri", "$request_uri", "$args", "$query_string", "$1", "$2", "$v", "$host", "$http_host", "$is_args$args", "${arg_bad}", "$remote_user",
			"$http_user_agent", "$escaped_request_uri", "$document_uri", "$scheme://$host", w.literal)
	}
	return inQuotes(part() + w.pick("", part(), " "+part(), "; "+part(), ", "+part()+part()))
}

func inQuotes(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

func (w *snippetWriter) name() string { return w.pick("X-N1", "X-N2", "x-n3", "X_N1") }

func (w *snippetWriter) condition() string {
	subject := w.pick("$arg_bad", "$http_bad", "$uri", "$request_uri", "$v", "$host", "$request_method", "$cookie_bad", "$args")
	return subject + w.pick("", " = "+w.value(), " != "+w.value(), " ~ "+w.expression(), " ~* "+w.expression(), " !~ "+w.expression(), " !~* "+w.expression())
}

func (w *snippetWriter) expression() string {
	return w.pick(`^/(.*)$`, `^/a/(.*)$`, `(.*)`, `^/([^/]+)/(.*)$`, `%0d`, `^/x(.*)`, `[\r\n]`, `"^(.)(.*)$"`, `^/admin(.*)`)
}

// directives writes some; nested says in which block.
func (w *snippetWriter) directives(depth int) {
	for range 1 + int(w.pick("a", "b", "c", "d")[0]-'a') {
		switch w.pick("set", "add", "more", "input", "proxy", "rewrite", "if", "return", "clear", "location", "filter") {
		case "set":
			fmt.Fprintf(&w.out, "set %s %s;\n", w.pick("$v", "$w", "$args"), w.value())
		case "add":
			fmt.Fprintf(&w.out, "add_header %s %s%s;\n", w.name(), w.value(), w.pick("", " always"))
		case "more":
			fmt.Fprintf(&w.out, "more_set_headers %s;\n", inQuotes(w.name()+": "+strings.Trim(w.value(), `"`)))
		case "input":
			fmt.Fprintf(&w.out, "more_set_input_headers %s;\n", inQuotes(w.name()+": "+strings.Trim(w.value(), `"`)))
		case "proxy":
			fmt.Fprintf(&w.out, "proxy_set_header %s %s;\n", w.name(), w.value())
		case "rewrite": // to a folder of its own, so that nothing but a fault leads to /admin
			fmt.Fprintf(&w.out, "rewrite %s /r/%s%s %s;\n", w.expression(), w.pick("$1", "$2/$1", "$v", "$arg_bad", "x", "$http_bad", "$uri"), w.pick("", "?", "?q=$1", "?$args", "?q=$http_bad"), w.pick("break", "last", "redirect", "permanent", ""))
		case "if":
			if depth < 2 {
				fmt.Fprintf(&w.out, "if (%s) {\n", w.condition())
				w.directives(depth + 1)
				w.out.WriteString("}\n")
			}
		case "return":
			if w.pick("no", "no", "no", "yes") == "yes" {
				fmt.Fprintf(&w.out, "return %s;\n", w.pick("403", "204", "200 "+w.value(), "302 "+w.value(), "301 https://a.test/"+strings.Trim(w.pick("$1", "$arg_bad", "$request_uri", "$uri", "$http_bad"), `"`), "444"))
			}
		case "clear":
			fmt.Fprintf(&w.out, "%s %s;\n", w.pick("more_clear_headers", "more_clear_input_headers", "proxy_hide_header"), inQuotes(w.name()))
		case "location":
			if depth == 0 {
				fmt.Fprintf(&w.out, "location %s {\n", w.pick("= /l", "/l/", "~ ^/l(.*)", "^~ /l", "~* (.*)\\.bak$"))
				w.directives(2)
				w.out.WriteString("return 200 \"l\";\n}\n")
			}
		case "filter":
			fmt.Fprintf(&w.out, "sub_filter ok %s;\n", w.value())
		}
	}
}

// ofResponses and ofRequests are the headers that need no rule, ofRules those of the snippets.
var (
	ofResponses = []string{"date", "content-length", "content-type", "connection", "location", "server", "set-cookie", "transfer-encoding", "retry-after", "allow", "x-content-type-options"}
	ofRequests  = []string{"host", "bad", "cookie", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-scheme", "x-scheme", "x-real-ip", "x-request-id", "x-kerngate-pass"}
	ofRules     = []string{"x-n1", "x-n2", "x-n3", "x_n1"}
)

// strange returns what is wrong with a head: a line end within a line, or a header that neither
// somebody sends nor a rule names.
func strange(head string, known []string) string {
	for i, line := range strings.Split(head, "\r\n") {
		name, _, both := strings.Cut(line, ":")
		switch {
		case strings.ContainsAny(line, "\r\n\x00"):
			return fmt.Sprintf("%q has a line end", line)
		case i > 0 && (!both || !slices.Contains(known, strings.ToLower(name)) && !slices.Contains(ofRules, strings.ToLower(name))):
			return fmt.Sprintf("%q is no header of anybody's", line)
		}
	}
	return ""
}

// try puts a generated snippet in force and sends a request to it, of which all parts are hostile.
// It reports whether the proxy serves the snippet, and whether a pod got the request.
func (s *snippetSite) try(t testing.TB, choices []byte, literal, target, value string) (served, reached bool) {
	w := &snippetWriter{choices: choices, literal: literal}
	key := w.pick("configuration-snippet", "configuration-snippet", "server-snippet")
	w.directives(0)
	snippet := w.out.String()
	if !s.apply(t, key, snippet) {
		return false, false
	}
	clean := func(text string, out string) string {
		return strings.Map(func(c rune) rune {
			if strings.ContainsRune(out, c) {
				return -1
			}
			return c
		}, text)
	}
	target, value = "/"+clean(target, "\r\n\x00 "), clean(value, "\r\n\x00")
	head := "GET " + target + " HTTP/1.1\r\nHost: hostile.test\r\nBad: " + value + "\r\nCookie: bad=" + value + "\r\nUser-Agent: " + value + "\r\nConnection: close\r\n\r\n"
	answer := exchangeRaw(t, s.proxy.Address, head)
	fail := func(what string) {
		t.Errorf("%s\n%s:\n%s\nrequest %q\nanswer %q", what, key, snippet, head, answer)
	}
	if response, body, whole := strings.Cut(answer, "\r\n\r\n"); answer != "" { // "": 444
		if wrong := strange(response, ofResponses); wrong != "" {
			fail("the client: " + wrong)
		}
		if !whole || !strings.HasPrefix(response, "HTTP/1.1 ") || strings.Contains(body, "\r\nHTTP/1.1 ") {
			fail("the client gets no answer, or two")
		}
	}
	heads := s.pod.take()
	if len(heads) > 1 {
		fail(fmt.Sprintf("pods get %d requests: %q", len(heads), heads))
	}
	for _, head := range heads {
		reached = true
		head = strings.TrimSuffix(head, "\r\n\r\n")
		if wrong := strange(head, ofRequests); wrong != "" {
			fail("the pod: " + wrong)
		}
		line, _, _ := strings.Cut(head, "\r\n")
		words := strings.Split(line, " ")
		if len(words) != 3 || words[0] != "GET" || words[2] != "HTTP/1.1" {
			fail(fmt.Sprintf("the pod gets %q", line))
			continue
		}
		sent, _, _ := strings.Cut(words[1], "?")
		decoded, err := url.PathUnescape(sent)
		if err != nil {
			continue // not to be read as another path
		}
		if to := path.Clean(decoded); to == "/admin" || strings.HasPrefix(to, "/admin/") {
			fail(fmt.Sprintf("the pod gets %s, which means %s", sent, to))
		}
	}
	return true, reached
}

// apply reports false if the configuration is refused.
func (s *snippetSite) apply(t testing.TB, key, snippet string) bool {
	t.Helper()
	var objects kube.Objects
	for _, one := range []struct {
		name, path  string
		annotations map[string]string
	}{
		{"web", "/", map[string]string{"nginx.ingress.kubernetes.io/" + key: snippet}},
		{"admin", "/admin", map[string]string{"nginx.ingress.kubernetes.io/denylist-source-range": "0.0.0.0/0,::/0"}},
	} {
		object, err := json.Marshal(map[string]any{
			"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": map[string]any{"name": one.name, "namespace": "default", "annotations": one.annotations},
			"spec": map[string]any{"ingressClassName": "kerngate", "rules": []any{map[string]any{"host": "hostile.test", "http": map[string]any{"paths": []any{
				map[string]any{"path": one.path, "pathType": "Prefix", "backend": map[string]any{"service": map[string]any{"name": "web", "port": map[string]any{"number": 80}}}},
			}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		decoded, _, err := kube.Decode(object)
		if err != nil { // a control character that YAML does not have
			return false
		}
		objects.Add(decoded[0])
	}
	decoded, _, err := kube.Decode([]byte(service("web")))
	if err != nil {
		t.Fatal(err)
	}
	objects.Add(decoded[0])
	m, _ := kube.Translate(objects, kube.Options{Class: "kerngate", ClassOptional: true})
	id := func(string) (state.ServiceID, bool) { return 1, true }
	snapshot, err := config.Empty().Apply(compile.Route(&m, id, compile.Common{}, nil, nil, nil).Snapshot(1))
	if err != nil {
		return false
	}
	s.proxy.Config.Store(snapshot)
	return true
}

var (
	hostileTexts   = []string{"v", "a\r\nX-Evil: 1", "%0d%0aX-Evil:%201", "\nX-Evil: 1\n\n", "\x00", "$", "\u2028X-Evil: 1", "}\nreturn 200;", "../admin", `\`}
	hostileTargets = []string{"", "a/x", "a/../admin", "a/..%2fadmin", "x../admin", "admin", "l", "a/%0d%0aX-Evil:%201", "a/%2e%2e/admin?bad=%0d%0aX-Evil:%201", "%5c..%5cadmin", "a/b/c?bad=../../admin", "x/../../admin/?bad=/../admin", "a//..//admin", "a/x?bad=%20HTTP/1.1%0d%0a%0d%0aGET%20/admin", "a/%25252e%25252e/admin", "r/..;/admin"}
	hostileValues  = []string{"v", "%0d%0aX-Evil: 1", "../admin", "/../admin", "..%2fadmin", "a\tb; bad=c", "\u2028", "\xff\xfe", "x HTTP/1.1", "?/../admin#", `..\admin`}
)

// snippetSeed is one set of arguments of try, of a number.
func snippetSeed(n uint64) (choices []byte, literal, target, value string) {
	r := rand.New(rand.NewPCG(n, 7))
	choices = make([]byte, 10+r.IntN(60))
	for i := range choices {
		choices[i] = byte(r.Uint32())
	}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	return choices, pick(hostileTexts), pick(hostileTargets), pick(hostileValues)
}

// TestSnippetsInjectNothing: generated snippets, and hostile requests to them, make no line and no
// header of their own, and lead no request past a rule of another path.
func TestSnippetsInjectNothing(t *testing.T) {
	s := newSnippetSite(t)
	served, reached := 0, 0
	for n := range uint64(600) {
		choices, literal, target, value := snippetSeed(n)
		of, at := s.try(t, choices, literal, target, value)
		if of {
			served++
		}
		if at {
			reached++
		}
		if t.Failed() {
			t.Fatalf("seed %d", n)
		}
	}
	t.Logf("%d snippets served, %d requests reached a pod", served, reached)
	if served < 500 || reached < 100 {
		t.Errorf("%d snippets are served and %d requests reach a pod: the test shows nothing", served, reached)
	}
}

// TestSnippetQueries: a header's value in a query of the snippet's making ends neither the target nor
// the query.
func TestSnippetQueries(t *testing.T) {
	s := newSnippetSite(t)
	for snippet, want := range map[string]string{
		`set $args "a=$http_bad";`:               "GET /x?a=b%20HTTP/1.1%23%C3%A4 HTTP/1.1",
		`set $v $http_bad; set $args "a=$v&$1";`: "GET /x?a=b%20HTTP/1.1%23%C3%A4& HTTP/1.1",
		`rewrite ^ /r?a=$http_bad break;`:        "GET /r?a=b%20HTTP/1.1%23%C3%A4&c=[1]%20 HTTP/1.1",
		`set $args "$args&d";`:                   "GET /x?c=[1]%20&d HTTP/1.1",
	} {
		if !s.apply(t, "configuration-snippet", snippet) {
			t.Fatalf("%s is refused", snippet)
		}
		exchangeRaw(t, s.proxy.Address, "GET /x?c=[1]%20 HTTP/1.1\r\nHost: hostile.test\r\nBad: b HTTP/1.1#\u00e4\r\nConnection: close\r\n\r\n")
		heads := s.pod.take()
		if len(heads) != 1 || !strings.HasPrefix(heads[0], want+"\r\n") {
			t.Errorf("%s: pods get %q, want %q", snippet, heads, want)
		}
	}
}

// FuzzSnippet is the same with what the fuzzer finds.
func FuzzSnippet(f *testing.F) {
	for n := range uint64(40) {
		choices, literal, target, value := snippetSeed(1000 + n)
		f.Add(choices, literal, target, value)
	}
	s := newSnippetSite(f)
	f.Fuzz(func(t *testing.T, choices []byte, literal, target, value string) {
		if len(choices) > 200 || len(literal)+len(target)+len(value) > 8000 {
			return
		}
		s.try(t, choices, literal, target, value)
	})
}
