//go:build linux && applications

package applications

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const svnHost = "svn.test"

// subversion speaks WebDAV: methods that few others use, and bodies of XML with requests.
var subversion = application{
	name: "Subversion", source: "Debian: subversion, libapache2-mod-svn in apache2",
	programs: []string{"svn", "svnadmin", "apache2"},
	version: func(t *testing.T) string {
		return "svn " + versionOf(t, "svn", "--version", "-q") + ", Apache " + versionOf(t, "apache2", "-v")
	},
	publish: func(s *site) {
		pod := s.addPod("svn-1")
		s.dir("svn/svn")
		s.apache(pod, "svn", `
LoadModule dav_module /usr/lib/apache2/modules/mod_dav.so
LoadModule dav_svn_module /usr/lib/apache2/modules/mod_dav_svn.so
<Location /svn>
	DAV svn
	SVNParentPath DIR/svn
	AuthType Basic
	AuthName svn
	AuthUserFile DIR/users
	Require valid-user
</Location>
`)
		s.file("svn/users", "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n") // the password is "secret"
		s.add(publication{host: svnHost, pod: pod, port: 80,
			annotations: map[string]string{"proxy-body-size": "64m"}, nginx: "client_max_body_size 64m;"})
	},
	conversations: []conversation{
		{does: "mkdir, checkout, add and commit of 10 files and one of 3 MB, propset, lock, unlock, log, list, update", talk: func(w *way) string { return svnSession(w, false) }},
		{does: "the same over TLS", talk: func(w *way) string { return svnSession(w, true) }},
	},
}

func TestSubversion(t *testing.T) { run(t, &subversion) }

// svnSession does a day's work in a new repository, and returns what the client said, what the
// server was asked, and what the repository holds then.
func svnSession(w *way, secure bool) string {
	dir := w.path("svn")
	name := fmt.Sprintf("of-%s-%t", w.name, secure)
	repository := filepath.Join(dir, "svn", name)
	for _, args := range [][]string{
		{"svnadmin", "create", repository}, {"svnadmin", "setuuid", repository, "6f4c1c1e-0000-4000-8000-000000000000"},
		{"chown", "-R", "www-data:www-data", repository},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			w.t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	w.asked(dir)
	url := w.url(secure, svnHost, "/svn/"+name)
	work := w.path("svn.work")
	must(w.t, os.RemoveAll(work))
	var text strings.Builder
	svn := func(in string, args ...string) {
		w.t.Helper()
		o := w.runIn(in, nil, "svn", append([]string{
			"--non-interactive", "--no-auth-cache", "--username", "ann", "--password", "secret", "--config-dir", w.path("svn.config"),
			"--config-option", "servers:global:ssl-authority-files=" + w.path("ca.pem"),
			"--config-option", "servers:global:http-max-connections=2",
		}, args...)...)
		fmt.Fprintf(&text, "svn %s: exit status %d\n", args[0], o.code)
		if o.code != 0 {
			text.WriteString(o.stderr)
		}
		if args[0] == "log" || args[0] == "ls" {
			for line := range strings.Lines(o.stdout) {
				if !strings.Contains(line, " | ") { // revision, author and date
					text.WriteString(line)
				}
			}
		}
	}
	svn("", "mkdir", "-m", "trunk", url+"/trunk", url+"/tags")
	svn("", "checkout", url+"/trunk", work)
	for i := range 10 {
		must(w.t, os.WriteFile(filepath.Join(work, fmt.Sprintf("file %d.txt", i)), []byte(strings.Repeat(fmt.Sprint(i), 100)), 0o644))
	}
	large := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(large)
	must(w.t, os.WriteFile(filepath.Join(work, "large.bin"), large, 0o644))
	svn(work, "add", "--force", ".")
	svn(work, "commit", "-m", "files")
	svn(work, "propset", "svn:keywords", "Id", "file 1.txt")
	svn(work, "commit", "-m", "property")
	svn(work, "lock", "large.bin")
	svn(work, "unlock", "large.bin")
	svn(work, "update")
	svn(work, "log", "-v")
	svn("", "ls", url+"/trunk")
	if !secure {
		// COPY names its destination by a whole URL, which a server behind TLS has to be told.
		svn("", "copy", "-m", "tag", url+"/trunk", url+"/tags/one")
	}
	must(w.t, os.RemoveAll(work))
	svn("", "checkout", url+"/trunk", work)
	content, err := os.ReadFile(filepath.Join(work, "large.bin"))
	fmt.Fprintf(&text, "the large file is whole: %t\n", err == nil && slices.Equal(content, large))
	out, err := exec.Command("svnadmin", "verify", "-q", repository).CombinedOutput()
	fmt.Fprintf(&text, "svnadmin verify: %v\n%s", err, out)
	asked := w.asked(dir)
	slices.Sort(asked)
	for _, line := range slices.Compact(asked) {
		// How often it asks for options and credentials depends on how many connections it makes.
		if !strings.HasPrefix(line, "OPTIONS ") && !strings.HasSuffix(line, " 401") {
			fmt.Fprintln(&text, strings.ReplaceAll(line, name, "repository"))
		}
	}
	return text.String()
}
