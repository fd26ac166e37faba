//go:build linux && applications

package applications

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// gitHost serves repositories with git http-backend, which is a CGI program.
const gitHost = "git.test"

// Pushes over HTTP/2 are small, because Debian's libcurl3-gnutls (7.88) sends up to 64 KiB a second
// time when its socket takes no more in the middle of a body of unknown length: through nginx 1
// of 40 pushes of 3 MB failed by that.
var gitHTTP = application{
	name: "git over smart HTTP", source: "Debian: git (client and git http-backend, in net/http/cgi)",
	programs: []string{"git"},
	version:  func(t *testing.T) string { return "git " + versionOf(t, "git", "--version") },
	publish:  publishGit,
	conversations: []conversation{
		{does: "clone over HTTP/1.1", talk: func(w *way) string { return gitClone(w, false) }},
		{does: "clone over HTTP/2", talk: func(w *way) string { return gitClone(w, true) }},
		{does: "push of 3 MB, chunked, over HTTP/1.1", talk: func(w *way) string { return gitPush(w, false, "open", 3<<20) }},
		{does: "push of 8 MB, chunked, over HTTP/1.1", talk: func(w *way) string { return gitPush(w, false, "open", 8<<20) }},
		{does: "push of 100 kB, of unknown length, over HTTP/2", talk: func(w *way) string { return gitPush(w, true, "open", 100<<10) }},
		{does: "push of 3 MB where the server asks for a password (401, then credentials), over HTTP/1.1", talk: func(w *way) string { return gitPush(w, false, "private", 3<<20) }},
		{does: "push of 100 kB where the server asks for a password (401, then credentials), over HTTP/2", talk: func(w *way) string { return gitPush(w, true, "private", 100<<10) }},
		{does: "push of 3 MB that the server refuses with 403 before it has read it, over HTTP/1.1", talk: func(w *way) string { return gitPush(w, false, "refused", 3<<20) }},
		{does: "push of 3 MB that the server refuses with 403 before it has read it, over HTTP/2", talk: func(w *way) string { return gitPush(w, true, "refused", 3<<20) }},
	},
}

func TestGit(t *testing.T) { run(t, &gitHTTP) }

// gitServer runs git http-backend and notes what it is asked.
type gitServer struct {
	root    string
	backend string

	mu   sync.Mutex
	seen []string
}

func publishGit(s *site) {
	out, err := exec.Command("git", "--exec-path").Output()
	must(s.t, err)
	g := &gitServer{root: s.dir("git"), backend: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")}
	gitServers.Store(s, g)
	pod := s.addPod("git-1")
	server := &http.Server{Handler: g}
	go server.Serve(s.listen(pod, 80))
	s.t.Cleanup(func() { server.Close() })
	s.add(publication{host: gitHost, pod: pod, port: 80,
		annotations: map[string]string{"proxy-body-size": "64m"}, nginx: "client_max_body_size 64m;"})
}

// gitServers are the servers by site.
var gitServers sync.Map

func (g *gitServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _, signedIn := r.BasicAuth()
	body := &countedBody{ReadCloser: r.Body, sum: sha256.New()}
	answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	switch push := strings.HasSuffix(r.URL.Path, "/git-receive-pack"); {
	case strings.HasPrefix(r.URL.Path, "/private") && !signedIn:
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		answer.WriteHeader(http.StatusUnauthorized)
	case strings.HasPrefix(r.URL.Path, "/refused") && push && r.ContentLength != 4: // 4: git looks whether it may
		http.Error(answer, "no pushes today", http.StatusForbidden)
		g.note("%s %s: %d", r.Method, r.URL.Path, answer.status)
		return
	default:
		if r.ContentLength < 0 {
			// net/http/cgi refuses what is chunked; git http-backend reads to the end where
			// it has no CONTENT_LENGTH.
			r.TransferEncoding = nil
		}
		r.Body = body
		backend := &cgi.Handler{Path: g.backend, Env: []string{
			"GIT_PROJECT_ROOT=" + g.root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=somebody", "HOME=" + g.root,
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		}}
		backend.ServeHTTP(answer, r)
	}
	_, _ = io.Copy(io.Discard, body)
	g.note("%s %s?%s: %d, %d bytes, %x", r.Method, r.URL.Path, r.URL.RawQuery, answer.status, body.bytes, body.sum.Sum(nil)[:4])
}

func (g *gitServer) note(format string, args ...any) {
	g.mu.Lock()
	g.seen = append(g.seen, fmt.Sprintf(format, args...))
	g.mu.Unlock()
}

// clear forgets what was asked and returns it.
func (g *gitServer) clear() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := g.seen
	g.seen = nil
	return seen
}

// repository makes a bare repository anew, with a history of so many bytes if any.
func (g *gitServer) repository(w *way, name string, bytes int) {
	w.t.Helper()
	dir := filepath.Join(g.root, name+".git")
	must(w.t, os.RemoveAll(dir))
	gitDo(w, g.root, "init", "-q", "--bare", "--initial-branch=main", dir)
	gitDo(w, dir, "config", "http.receivepack", "true")
	if bytes > 0 {
		gitDo(w, gitWork(w, bytes), "push", "-q", dir, "main")
	}
}

// gitWork makes a working tree with one commit, which is the same every time.
func gitWork(w *way, bytes int) string {
	w.t.Helper()
	dir := w.dir(fmt.Sprintf("work.%s.%d", w.name, len(w.talks)))
	must(w.t, os.RemoveAll(dir))
	gitDo(w, w.lab.Dir, "init", "-q", "--initial-branch=main", dir)
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, bytes)
	_, _ = random.Read(content)
	must(w.t, os.WriteFile(filepath.Join(dir, "content"), content, 0o644))
	gitDo(w, dir, "add", "content")
	gitDo(w, dir, "commit", "-q", "-m", "content")
	return dir
}

// gitEnv makes commits and packs the same every time, and keeps git from asking the terminal.
var gitEnv = []string{
	"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@git.test", "GIT_AUTHOR_DATE=2026-01-01T00:00:00Z",
	"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@git.test", "GIT_COMMITTER_DATE=2026-01-01T00:00:00Z",
	"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1",
	"GIT_CONFIG_COUNT=4", "GIT_CONFIG_KEY_0=pack.threads", "GIT_CONFIG_VALUE_0=1", "GIT_CONFIG_KEY_1=http.postBuffer", "GIT_CONFIG_VALUE_1=65536",
	"GIT_CONFIG_KEY_2=safe.directory", "GIT_CONFIG_VALUE_2=*", "GIT_CONFIG_KEY_3=gc.auto", "GIT_CONFIG_VALUE_3=0",
}

// gitDo runs git on this machine, without a network.
func gitDo(w *way, dir string, args ...string) string {
	w.t.Helper()
	c := exec.Command("git", args...)
	c.Dir = dir
	c.Env = append(os.Environ(), append(slices.Clone(gitEnv), "HOME="+w.lab.Dir)...)
	out, err := c.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func gitClient(w *way, dir string, args ...string) outcome {
	w.t.Helper()
	return w.runIn(dir, append(slices.Clone(gitEnv), "GIT_SSL_CAINFO="+w.path("ca.pem")), "git", args...)
}

func gitOf(w *way) *gitServer {
	g, _ := gitServers.Load(w.site)
	return g.(*gitServer)
}

// gitClone clones a repository of 3 MB and returns what it is and what the server was asked.
func gitClone(w *way, secure bool) string {
	g := gitOf(w)
	g.repository(w, "open", 3<<20)
	g.clear()
	clone := w.path("clone." + w.name)
	must(w.t, os.RemoveAll(clone))
	o := gitClient(w, "", "clone", "-q", w.url(secure, gitHost, "/open.git"), clone)
	text := fmt.Sprintf("exit status %d\n%s\n", o.code, strings.Join(g.clear(), "\n"))
	if o.code == 0 {
		text += gitDo(w, clone, "rev-parse", "HEAD") + "\n" + gitDo(w, clone, "fsck", "--full")
	}
	return text
}

// gitPush pushes to a repository and returns what it holds then and what the server was asked.
func gitPush(w *way, secure bool, repository string, bytes int) string {
	g := gitOf(w)
	g.repository(w, repository, 0)
	g.clear()
	url := w.url(secure, gitHost, "/"+repository+".git")
	if repository == "private" {
		url = strings.Replace(url, "://", "://somebody:secret@", 1)
	}
	o := gitClient(w, gitWork(w, bytes), "push", "-q", url, "main")
	text := fmt.Sprintf("exit status %d\n%s\n", o.code, strings.Join(g.clear(), "\n"))
	if o.code != 0 {
		for line := range strings.Lines(o.stderr) {
			if strings.Contains(line, "error: ") {
				text += line
			}
		}
		return text
	}
	dir := filepath.Join(g.root, repository+".git")
	return text + gitDo(w, dir, "rev-parse", "main") + "\n" + gitDo(w, dir, "fsck", "--full")
}
