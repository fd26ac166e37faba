//go:build linux && applications

package applications

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

// The hosts of one pod: as it is by default, without a limit, and with settings by which the
// ingress itself refuses.
const (
	curlHost      = "curl.test"
	unlimitedHost = "unlimited.curl.test"
	passwordHost  = "password.curl.test"
	forbiddenHost = "forbidden.curl.test"
	limitedHost   = "limited.curl.test"
)

// curlUploads are by Debian's curl, which takes an HTTP/2 stream that is reset for an error,
// whatever was answered just before.
var curlUploads = application{
	name: "curl", source: "Debian: curl; the server is net/http",
	programs: []string{"curl"},
	version:  func(t *testing.T) string { return "curl " + versionOf(t, "curl", "--version") },
	publish:  publishCurl,
	conversations: append([]conversation{
		{does: "upload of 900 kB with its length, HTTP/1.1", talk: upload(false, curlHost, "/", 900_000, true)},
		{does: "upload of 900 kB with its length, HTTP/2", talk: upload(true, curlHost, "/", 900_000, true)},
		{does: "upload of 900 kB of unknown length, HTTP/1.1", talk: upload(false, curlHost, "/", 900_000, false)},
		{does: "upload of 900 kB of unknown length, HTTP/2", talk: upload(true, curlHost, "/", 900_000, false)},
		{does: "upload of 6 MB with its length, HTTP/2", talk: upload(true, curlHost, "/", 6_000_000, true),
			differs: map[string]string{nginx: "413, as its limit is 1 MB by default"}},
		{does: "upload of 6 MB of unknown length, HTTP/1.1", talk: upload(false, unlimitedHost, "/", 6_000_000, false)},
		{does: "upload of 6 MB of unknown length, HTTP/2", talk: upload(true, unlimitedHost, "/", 6_000_000, false)},
	}, earlyAnswers()...),
}

func TestCurl(t *testing.T) { run(t, &curlUploads) }

// earlyAnswers are those that come before the body has been sent, by the pod and by the ingress.
func earlyAnswers() (all []conversation) {
	for _, http2 := range []bool{false, true} {
		version := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2]
		for _, refusal := range []struct {
			status int
			host   string
		}{{401, passwordHost}, {403, forbiddenHost}, {413, limitedHost}} {
			for _, c := range []struct{ who, host, path string }{
				{"pod", unlimitedHost, fmt.Sprintf("/early?status=%d", refusal.status)},
				{"ingress", refusal.host, "/"},
			} {
				talk := upload(http2, c.host, c.path, 6_000_000, true)
				all = append(all, conversation{
					does: fmt.Sprintf("the %s answers %d before it has read 6 MB, %s", c.who, refusal.status, version),
					talk: func(w *way) string {
						result, _, _ := strings.Cut(talk(w), "\n") // each has a page of its own
						return result
					},
					want: fmt.Sprintf("exit status 0, status %d", refusal.status),
				})
			}
		}
	}
	return all
}

func publishCurl(s *site) {
	pod := s.addPod("curl-1")
	server := &http.Server{Handler: http.HandlerFunc(receive)}
	go server.Serve(s.listen(pod, 80))
	s.t.Cleanup(func() { server.Close() })

	const users = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n" // the password is "secret"
	must(s.t, s.Manifests.Write("users.yaml", lab.Object{
		"apiVersion": "v1", "kind": "Secret", "metadata": lab.Object{"name": "users", "namespace": "default"},
		"stringData": lab.Object{"auth": users},
	}))
	const unlimited = "client_max_body_size 0;"
	s.add(publication{host: curlHost, pod: pod, port: 80})
	s.add(publication{host: unlimitedHost, pod: pod, port: 80,
		annotations: map[string]string{"proxy-body-size": "0"}, nginx: unlimited})
	s.add(publication{host: passwordHost, pod: pod, port: 80,
		annotations: map[string]string{"auth-type": "basic", "auth-secret": "users", "proxy-body-size": "0"},
		nginx:       unlimited + ` auth_basic "Authentication Required"; auth_basic_user_file ` + s.file("users", users) + ";"})
	s.add(publication{host: forbiddenHost, pod: pod, port: 80,
		annotations: map[string]string{"whitelist-source-range": "198.51.100.0/24", "proxy-body-size": "0"},
		nginx:       unlimited + " allow 198.51.100.0/24; deny all;"})
	s.add(publication{host: limitedHost, pod: pod, port: 80,
		annotations: map[string]string{"proxy-body-size": "1m"}})
}

// receive reads a body and tells how much it was, or answers without having read it.
func receive(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/early" {
		status, err := strconv.Atoi(r.URL.Query().Get("status"))
		if err != nil {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "no more of this\n")
		return
	}
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	fmt.Fprintf(w, "received %d bytes, %x, error %v\n", n, sum.Sum(nil)[:4], err)
}

// upload posts a body of so many bytes, with its length or without, and returns the exit
// status, the status of the response and its body. The pod itself is always asked by HTTP/1.1.
func upload(http2 bool, host, path string, size int, length bool) func(*way) string {
	return func(w *way) string {
		body := w.file(fmt.Sprintf("body.%d", size), strings.Repeat("0123456789", size/10))
		args := []string{"-sS", "--max-time", "60", "-o", "-", "-w", "\n%{http_code} %{http_version}", "-X", "POST"}
		if http2 && w.name != direct {
			args = append(args, "--http2")
		} else {
			args = append(args, "--http1.1")
		}
		if length {
			args = append(args, "--data-binary", "@"+body)
		} else {
			args = append(args, "-T", "-")
		}
		o := w.runIn("", nil, "sh", append([]string{"-c", `exec <"$0"; exec curl "$@"`, body}, append(args, w.url(http2, host, path))...)...)
		i := strings.LastIndexByte(o.stdout, '\n')
		status, version, _ := strings.Cut(o.stdout[i+1:], " ")
		if http2 && w.name != direct && version != "2" && status != "000" {
			w.t.Errorf("%s: the response came by HTTP %s", w.name, version)
		}
		return fmt.Sprintf("exit status %d, status %s\n%s", o.code, status, strings.TrimSpace(o.stdout[:max(i, 0)]))
	}
}
