//go:build linux && applications

package applications

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/kerngate/kerngate/test/lab"
)

// apacheMain is what every Apache here needs. It logs what the client asked: method, path,
// status.
const apacheMain = `
ServerRoot DIR
ServerName localhost
Listen 80
PidFile DIR/apache.pid
DefaultRuntimeDir DIR
Mutex file:DIR default
ErrorLog DIR/error.log
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_host_module /usr/lib/apache2/modules/mod_authz_host.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authn_file_module /usr/lib/apache2/modules/mod_authn_file.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule auth_basic_module /usr/lib/apache2/modules/mod_auth_basic.so
LogFormat "%m %U %>s" asked
CustomLog DIR/access.log asked
DocumentRoot DIR/root
`

// apache starts an Apache with a configuration of its own on port 80 of the pod.
func (s *site) apache(pod *lab.Pod, name, configuration string) (dir string) {
	s.t.Helper()
	dir = s.dir(name)
	s.dir(name + "/root")
	text := strings.ReplaceAll(apacheMain+configuration, "DIR", dir)
	file := s.file(name+"/apache.conf", text)
	s.serve(pod, 80, lab.Command{Path: "apache2", Args: []string{"-d", dir, "-f", file, "-D", "FOREGROUND"}, Name: name})
	return dir
}

// asked returns what an Apache was asked since it was asked for that last.
func (w *way) asked(dir string) []string {
	w.t.Helper()
	file := filepath.Join(dir, "access.log")
	text, err := os.ReadFile(file)
	must(w.t, err)
	must(w.t, os.Truncate(file, 0))
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}
