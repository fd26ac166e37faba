//go:build linux && applications

package applications

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

const phpHost = "php.test"

// phpFPM is PHP behind Apache's mod_proxy_fcgi, to which a body without a
// length is an empty one.
var phpFPM = application{
	name: "PHP-FPM", source: "Debian: php-fpm behind apache2's mod_proxy_fcgi; client curl",
	programs: []string{"apache2", "curl"},
	version: func(t *testing.T) string {
		return "PHP " + versionOf(t, phpBinary(t), "-v") + ", Apache " + versionOf(t, "apache2", "-v") + ", curl " + versionOf(t, "curl", "--version")
	},
	publish: publishPHP,
	conversations: []conversation{
		{does: "form with two files, one of 300 kB, HTTP/1.1", talk: phpForm(false)},
		{does: "form with two files, one of 300 kB, HTTP/2", talk: phpForm(true)},
		{does: "POST of 400 kB with its length, HTTP/1.1", talk: upload(false, phpHost, "/body.php", 400_000, true), want: phpGot},
		{does: "POST of 400 kB, chunked, HTTP/1.1", talk: upload(false, phpHost, "/body.php", 400_000, false), want: phpGot},
		{does: "POST of 400 kB without content-length, HTTP/2", talk: upload(true, phpHost, "/body.php", 400_000, false), want: phpGot},
		{does: "download of 3 MB that PHP flushes in pieces", talk: func(w *way) string {
			o := w.runIn("", nil, "sh", "-c", `curl -sS "$0" | sha256sum`, w.url(true, phpHost, "/pieces.php"))
			return outcomeText(o)
		}},
	},
}

func TestPHP(t *testing.T) { run(t, &phpFPM) }

const phpGot = "exit status 0, status 200\nlength 400000, read 400000 bytes"

func phpBinary(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/sbin/php-fpm*")
	must(t, err)
	if len(found) == 0 {
		skip(t, "needs php-fpm: scripts/setup applications installs it")
	}
	return found[0]
}

func publishPHP(s *site) {
	pod := s.addPod("php-1")
	dir := s.dir("php")
	file := s.file("php/fpm.conf", fmt.Sprintf(`
[global]
pid = %[1]s/fpm.pid
error_log = %[1]s/fpm.log
daemonize = no
[www]
user = www-data
group = www-data
listen = 127.0.0.1:9000
pm = static
pm.max_children = 2
`, dir))
	s.dir("php/root")
	s.file("php/root/body.php", `<?php $b = file_get_contents("php://input"); printf("length %s, read %d bytes", $_SERVER["CONTENT_LENGTH"] ?? "unknown", strlen($b));`)
	s.file("php/root/form.php", `<?php foreach ($_FILES as $n => $f) printf("%s: %s, %d bytes, %.8s\n", $n, $f["name"], $f["size"], hash_file("sha256", $f["tmp_name"])); ksort($_POST); foreach ($_POST as $n => $v) printf("%s = %s\n", $n, $v);`)
	s.file("php/root/pieces.php", `<?php for ($i = 0; $i < 300; $i++) { echo str_repeat(chr(65 + $i % 26), 10000); flush(); }`)
	_, err := pod.Start(lab.Command{Path: phpBinary(s.t), Args: []string{"--nodaemonize", "--fpm-config", file}, Name: "php-fpm"})
	must(s.t, err)
	s.apache(pod, "php", `
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so
<Directory DIR/root>
	Require all granted
</Directory>
<FilesMatch "\.php$">
	SetHandler "proxy:fcgi://127.0.0.1:9000"
</FilesMatch>
`)
	s.add(publication{host: phpHost, pod: pod, port: 80})
}

// phpForm posts a form as a browser does.
func phpForm(http2 bool) func(*way) string {
	return func(w *way) string {
		version := "--http1.1"
		if http2 && w.name != direct {
			version = "--http2"
		}
		large := w.file("large.bin", strings.Repeat("0123456789", 30_000))
		return outcomeText(w.run("curl", "-sS", version, "-F", "first=@"+large, "-F", "second=@"+w.file("small.txt", "small\n")+";filename=naïve \"name\".txt",
			"-F", "text=two\nlines", "-F", "empty=", w.url(http2, phpHost, "/form.php")))
	}
}
