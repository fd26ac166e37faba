package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// readers are the ways in which servers find out what the path of a request means.
var readers = map[string]func(target string) string{
	"by its characters":      func(s string) string { return s },
	"resolves it (RFC 3986)": func(s string) string { return strings.TrimSuffix(resolved(s), "/") },
	"decodes it, then cleans it": func(s string) string {
		s, _ = url.PathUnescape(s)
		return path.Clean(s)
	},
	"resolves it, then decodes it": func(s string) string {
		s, _ = url.PathUnescape(resolved(s))
		return s
	},
	"new URL(target, base) of Node.js": func(s string) string {
		s = strings.ReplaceAll(s, `\`, "/")
		if strings.HasPrefix(s, "//") { // what follows is a host
			_, s, _ = strings.Cut(s[2:], "/")
			s = "/" + s
		}
		return resolved(strings.NewReplacer("%2e", ".", "%2E", ".").Replace(s))
	},
	"takes backslashes for slashes, decodes dots": func(s string) string {
		if dots := strings.Contains(s, ".."); dots {
			s, _ = url.PathUnescape(s)
		}
		return path.Clean(strings.ReplaceAll(s, `\`, "/"))
	},
	"drops what stands behind ; from dot segments, as Tomcat": func(s string) string {
		s, _ = url.PathUnescape(s)
		parts := strings.Split(s, "/")
		for i, p := range parts {
			if strings.HasPrefix(p, ".") {
				parts[i], _, _ = strings.Cut(p, ";")
			}
		}
		return path.Clean(strings.Join(parts, "/"))
	},
	"merges nothing, resolves each segment": func(s string) string {
		var out []string
		for _, p := range strings.Split(s, "/")[1:] {
			switch p {
			case "..":
				if len(out) > 0 {
					out = out[:len(out)-1]
				}
			case ".":
			default:
				out = append(out, p)
			}
		}
		return "/" + strings.Join(out, "/")
	},
}

// resolved resolves a path as section 5.2.4 of RFC 3986 says: an empty segment is one.
func resolved(s string) string {
	u, err := url.Parse("http://h" + s)
	if err != nil {
		return s
	}
	var out []string
	for _, p := range strings.Split(u.EscapedPath(), "/")[1:] {
		switch p {
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		case ".":
		default:
			out = append(out, p)
		}
	}
	return "/" + strings.Join(out, "/")
}

// TestOneReadingOfPaths: no spelling has a pod of an open path take the request for one of a
// protected path, whichever way it reads paths.
func TestOneReadingOfPaths(t *testing.T) {
	target := make(chan string, 1)
	open := pod(t, func(w http.ResponseWriter, r *http.Request) { target <- r.RequestURI })
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/open:80", Path: "/", Backends: []string{open}},
		{Name: "d/admin:80", Path: "/admin", Backends: []string{open}, Policy: &feedpb.Policy{Access: &feedpb.Access{Closed: "nobody"}}},
		{Name: "d/line:80", Path: "/line/(.*)$", Regexp: true, Backends: []string{open}, Policy: &feedpb.Policy{Access: &feedpb.Access{Closed: "nobody"}}},
	}, nil)
	dots := []string{"..", ".", "%2e%2e", ".%2E", "%2e", "..;", ".;a=b", "%2e%2e%3b", "...", "x", ""}
	slashes := []string{"/", "//", `\`, "%2f", "%5c", "%2F", "%5C"}
	asked, served := 0, 0
	ask := func(s string) {
		asked++
		answer := talk(t, p, "GET "+s+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
			if !strings.HasPrefix(answer, "HTTP/1.1 400 ") && !strings.HasPrefix(answer, "HTTP/1.1 503 ") {
				t.Errorf("%s: %q", s, answer)
			}
			return
		}
		served++
		got := <-target
		for name, read := range readers {
			if what := read(got); what == "/admin" || strings.HasPrefix(what, "/admin/") || strings.HasPrefix(what, "/line/") {
				t.Errorf("%s: the pod gets %s, which means %s to one that %s", s, got, what, name)
			}
		}
	}
	for _, s1 := range slashes {
		for _, d1 := range dots {
			for _, s2 := range slashes {
				for _, d2 := range dots {
					if s1 == "/" || d1 == ".." || d2 == ".." || d1 == "" {
						ask("/public" + s1 + d1 + s2 + d2 + "/admin/users")
					}
				}
			}
			ask("/admin" + s1 + "x" + s1 + d1 + "/../y")
			ask("/x" + s1 + d1 + s1 + "admin/y")
			ask("//x" + s1 + "admin/" + d1)
		}
	}
	for _, s := range []string{"/admin/x/../../y", "/admin//../users", "/admin/x%2f../../users", `/public\..\admin/users`, `/admin\users`, `/\admin/x`, "//public/admin/x", "///x/admin/y",
		"/line/x%0a", "/line/%0ax", "/line/x%0d%0a", "/%2e%2e/admin", "/x/..%5cadmin", "/admin%2f..%2f..%2fx"} {
		ask(s)
	}
	if served < 50 {
		t.Errorf("%d of %d were served", served, asked)
	}
}

// TestResolvedPathIsForwarded: pods get the path that routes were matched with, in all else as
// it was received, and the log has what was received.
func TestResolvedPathIsForwarded(t *testing.T) {
	p := proxytest.Start(t, []proxytest.Service{{Name: "d/web:80", Path: "/", Backends: []string{echo(t, "web")}}}, &feedpb.Settings{AccessLogSample: 1})
	for sent, want := range map[string]string{
		"/a/../b?c=../d": "/b?c=../d", "/a/./b%20c/": "/a/b%20c/", "/a/%2e%2E/b": "/b", "//a": "/a", "/a//b": "/a//b", "/a%2Fb": "/a%2Fb", "/a%5cb": "/a%5cb", "/..a/...": "/..a/...", "/?": "/?",
	} {
		has(t, shop(t, p, "GET "+sent), "200 ", "GET "+want+" host=")
		path, _, _ := strings.Cut(sent, "?")
		line := fmt.Sprintf(`"path":%q`, path)
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Log.String(), line); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log has %s", sent, p.Log)
			}
		}
	}
}
