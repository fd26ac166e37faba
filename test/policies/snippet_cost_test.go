package policies

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/compile"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// tenDirectives is a snippet of ten directives of several kinds. A request for /old/page meets
// all of them.
const tenDirectives = `set $shop "$host";
if ($http_x_blocked) { return 403; }
if ($request_method = TRACE) { return 405; }
rewrite ^/old/(.*)$ /new/$1 break;
proxy_set_header X-Shop "$shop";
more_clear_input_headers "X-Internal";
more_set_headers "X-Frame-Options: DENY";
more_set_headers "X-Shop: $shop";
more_clear_headers "X-Powered-By";
add_header X-Page "$uri" always;`

// fixedPod answers each request with the same bytes and allocates nothing.
func fixedPod(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	out := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Powered-By: pod\r\nContent-Length: 128\r\n\r\n" + string(make([]byte, 128)))
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := make([]byte, 16<<10)
				for n := 0; ; {
					m, err := c.Read(in[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
						if n = 0; !sent(c, out) {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func sent(c net.Conn, out []byte) bool {
	_, err := c.Write(out)
	return err == nil
}

// costly returns a function that sends one request for /old/page to a proxy whose Ingress has
// these annotations, and returns the answer.
func costly(t testing.TB, annotations ...string) func() []byte {
	t.Helper()
	var objects kube.Objects
	for _, text := range []string{ingress("web", "cost.test", "/", "web", annotations...), service("web")} {
		decoded, _, err := kube.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		objects.Add(decoded[0])
	}
	m, problems := kube.Translate(objects, kube.Options{Class: "kerngate", ClassOptional: true})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	names := []string{"default/web:80"}
	proxy := proxytest.Start(t, []proxytest.Service{{Name: names[0], Path: "/", Backends: []string{fixedPod(t)}}}, nil)
	id := func(name string) (state.ServiceID, bool) {
		i := slices.Index(names, name)
		return state.ServiceID(i + 1), i >= 0
	}
	snapshot, err := config.Empty().Apply(compile.Route(&m, id, compile.Common{Settings: &feedpb.Settings{}}, nil, nil, nil).Snapshot(1))
	if err != nil {
		t.Fatal(err)
	}
	proxy.Config.Store(snapshot)
	c := proxy.Dial(t)
	request := []byte("GET /old/page HTTP/1.1\r\nHost: cost.test\r\nUser-Agent: test\r\nAccept: */*\r\nX-Internal: 1\r\n\r\n")
	in := make([]byte, 4096)
	return func() []byte {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(in)
		if err != nil {
			t.Fatal(err)
		}
		return in[:n]
	}
}

// TestSnippetAllocations: a request through a compiled snippet allocates nothing, as one without,
// but for the groups of a rewrite: package regexp returns them in a slice of its own.
func TestSnippetAllocations(t *testing.T) {
	for name, c := range map[string]struct {
		snippet string
		most    float64
	}{
		"groups":    {tenDirectives, 1},
		"no groups": {strings.Replace(tenDirectives, "rewrite ^/old/(.*)$ /new/$1 break;", "rewrite ^/old/page$ /new/page break;", 1), 0},
	} {
		t.Run(name, func(t *testing.T) {
			send := costly(t, "configuration-snippet: "+c.snippet)
			exchange := func() {
				got := send()
				for _, part := range []string{"HTTP/1.1 200", "\r\nX-Frame-Options: DENY\r\n", "\r\nX-Shop: cost.test\r\n", "\r\nX-Page: /new/page\r\n"} {
					if !bytes.Contains(got, []byte(part)) {
						t.Fatalf("%q is missing in %q", part, got)
					}
				}
				if bytes.Contains(got, []byte("X-Powered-By")) {
					t.Fatalf("a header that the snippet clears is in %q", got)
				}
			}
			for range 100 {
				exchange()
			}
			if n := testing.AllocsPerRun(1000, exchange); n > c.most {
				t.Errorf("%v allocations per request, want %v", n, c.most)
			}
		})
	}
}

// BenchmarkSnippetExchange sends requests by turns to a proxy with the snippet and to one without,
// and gives the ratio of the two times. The pod and the client are in both.
func BenchmarkSnippetExchange(b *testing.B) {
	plain, snippet := costly(b), costly(b, "configuration-snippet: "+tenDirectives)
	var plainTime, snippetTime time.Duration
	for b.Loop() {
		start := time.Now()
		plain()
		middle := time.Now()
		snippet()
		plainTime += middle.Sub(start)
		snippetTime += time.Since(middle)
	}
	b.ReportMetric(float64(plainTime.Nanoseconds())/float64(b.N), "ns/plain")
	b.ReportMetric(float64(snippetTime.Nanoseconds())/float64(b.N), "ns/snippet")
	b.ReportMetric(float64(snippetTime)/float64(plainTime), "ratio")
}
