//go:build linux && applications

package applications

import (
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

const gunicornHost = "gunicorn.test"

// gunicorn runs a WSGI application that reads as many bytes as CONTENT_LENGTH says, as Django
// does: a body without a length is an empty one to it.
var gunicorn = application{
	name: "gunicorn", source: "Debian: gunicorn; client curl",
	programs: []string{"gunicorn", "curl"},
	version: func(t *testing.T) string {
		return "gunicorn " + versionOf(t, "gunicorn", "--version") + ", curl " + versionOf(t, "curl", "--version")
	},
	publish: func(s *site) {
		dir := s.dir("wsgi")
		s.file("wsgi/application.py", wsgiApplication)
		pod := s.addPod("gunicorn-1")
		s.serve(pod, 80, lab.Command{Path: "gunicorn", Args: []string{"--bind", "0.0.0.0:80", "--workers", "2", "--chdir", dir, "application:application"}})
		s.add(publication{host: gunicornHost, pod: pod, port: 80})
	},
	conversations: []conversation{
		{does: "POST of 400 kB with its length, HTTP/1.1", talk: upload(false, gunicornHost, "/", 400_000, true), want: wsgiGot},
		{does: "POST of 400 kB with its length, HTTP/2", talk: upload(true, gunicornHost, "/", 400_000, true), want: wsgiGot},
		{does: "POST of 400 kB, chunked, HTTP/1.1", talk: upload(false, gunicornHost, "/", 400_000, false), want: wsgiGot},
		{does: "POST of 400 kB without content-length, HTTP/2", talk: upload(true, gunicornHost, "/", 400_000, false), want: wsgiGot},
		{does: "form of 10 bytes without content-length, HTTP/2", talk: upload(true, gunicornHost, "/", 10, false), want: "exit status 0, status 200\nread 10 bytes, 84d89877"},
	},
}

func TestGunicorn(t *testing.T) { run(t, &gunicorn) }

const wsgiGot = "exit status 0, status 200\nread 400000 bytes, a914dccc"

const wsgiApplication = `
import hashlib

def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    answer = b"read %d bytes, %s" % (len(body), hashlib.sha256(body).hexdigest()[:8].encode())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
`
