package folder

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/manifest"
	"github.com/kerngate/kerngate/userspace/model"
)

func ingress(name, host, path string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %s}
spec:
  ingressClassName: kerngate
  rules:
  - host: %s
    http: {paths: [{path: %s, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}
`, name, host, path)
}

const service = `apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80}]}
`

func endpoints(address string) string {
	return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: ["` + address + `"]}]
`
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start runs a source on the folder.
func start(t *testing.T, dir string) *Source {
	t.Helper()
	s := New(dir, kube.Options{Class: "kerngate"}, zerolog.New(zerolog.NewTestWriter(t)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// until waits for an update in which want is true.
func until(t *testing.T, s *Source, what string, want func(dump, problems string) bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	last := "no update"
	for {
		select {
		case u := <-s.Updates():
			dump, problems := u.Model.Dump(), dumpProblems(u.Problems)
			if want(dump, problems) {
				return
			}
			last = dump + problems
		case <-deadline:
			t.Fatalf("%s: not seen; last:\n%s", what, last)
		}
	}
}

func has(part string) func(dump, problems string) bool {
	return func(dump, problems string) bool { return strings.Contains(dump+problems, part) }
}

func dumpProblems(problems []model.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

// never fails if an update comes for which bad is true, for as long as a change takes.
func never(t *testing.T, s *Source, what string, bad func(dump, problems string) bool) {
	t.Helper()
	deadline := time.After(refill / 2)
	for {
		select {
		case u := <-s.Updates():
			if dump, problems := u.Model.Dump(), dumpProblems(u.Problems); bad(dump, problems) {
				t.Fatalf("%s:\n%s%s", what, dump, problems)
			}
		case <-deadline:
			return
		}
	}
}

func TestChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "web.yaml", ingress("web", "one.example.com", "/")+"---\n"+service+"---\n"+endpoints("10.0.0.1"))
	write(t, dir, "notes.txt", "not a manifest")
	s := start(t, dir)
	until(t, s, "the first read", has("10.0.0.1:8080"))

	write(t, dir, "more.yml", ingress("more", "two.example.com", "/"))
	until(t, s, "a new file", has("two.example.com"))

	write(t, dir, ".web.yaml.tmp", ingress("web", "one.example.com", "/")+"---\n"+service+"---\n"+endpoints("10.0.0.2"))
	if err := os.Rename(filepath.Join(dir, ".web.yaml.tmp"), filepath.Join(dir, "web.yaml")); err != nil {
		t.Fatal(err)
	}
	until(t, s, "an atomic replacement", has("10.0.0.2:8080"))

	if err := os.Remove(filepath.Join(dir, "more.yml")); err != nil {
		t.Fatal(err)
	}
	until(t, s, "a removed file", func(d, _ string) bool { return !strings.Contains(d, "two.example.com") })

	write(t, dir, "list.json", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"j"},"spec":{"ingressClassName":"kerngate","defaultBackend":{"service":{"name":"a","port":{"number":80}}}}}]}`)
	until(t, s, "JSON, a List", has(`host ""`))
}

// TestLists: one item that cannot be used takes no other down, a List may be of one kind,
// and what is not read is said.
func TestLists(t *testing.T) {
	dir := t.TempDir()
	item := func(version, name, host string) string {
		return `{"apiVersion":"` + version + `","kind":"Ingress","metadata":{"name":"` + name + `"},"spec":{"ingressClassName":"kerngate","rules":[{"host":"` + host +
			`","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"a","port":{"number":80}}}}]}}]}}`
	}
	const v1 = "networking.k8s.io/v1"
	write(t, dir, "service.yaml", service)
	write(t, dir, "list.json", `{"apiVersion":"v1","kind":"List","items":[`+item(v1, "one", "one.example.com")+","+
		item(v1, "a_b", "bad.example.com")+","+item(v1, "three", "three.example.com")+`]}`)
	write(t, dir, "ingresslist.json", `{"apiVersion":"`+v1+`","kind":"IngressList","items":[`+strings.Replace(item(v1, "typed", "typed.example.com"), `"apiVersion":"`+v1+`","kind":"Ingress",`, "", 1)+`]}`)
	write(t, dir, "endpoints.yaml", "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\n")
	utf16 := []byte{0xff, 0xfe}
	for _, c := range ingress("u1", "u1.example.com", "/") + "---\n" + ingress("u2", "u2.example.com", "/") {
		utf16 = append(utf16, byte(c), 0)
	}
	write(t, dir, "utf16.yaml", string(utf16))
	until(t, start(t, dir), "all that can be read", func(dump, problems string) bool {
		for _, host := range []string{"one", "three", "typed", "u1", "u2"} {
			if !strings.Contains(dump, host+".example.com") {
				return false
			}
		}
		return strings.Contains(problems, `list.json, document 1 (line 1), items[1]: Ingress: metadata.name "a_b"`) &&
			strings.Contains(problems, "Endpoints are not read")
	})
}

// TestLinks: what Kubernetes does to a mounted ConfigMap (files are links through ..data,
// which is swapped), and what deployment tools do to a folder (its name is a link).
func TestLinks(t *testing.T) {
	t.Run("files", func(t *testing.T) {
		dir := t.TempDir()
		for i, address := range []string{"10.0.0.1", "10.0.0.2"} {
			version := filepath.Join(dir, fmt.Sprintf("..v%d", i))
			if err := os.Mkdir(version, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, version, "web.yaml", ingress("web", "one.example.com", "/")+"---\n"+service+"---\n"+endpoints(address))
		}
		swap(t, "..v0", filepath.Join(dir, "..data"))
		swap(t, "..data/web.yaml", filepath.Join(dir, "web.yaml"))
		s := start(t, dir)
		until(t, s, "the first version", has("10.0.0.1:8080"))
		swap(t, "..v1", filepath.Join(dir, "..data"))
		until(t, s, "the second version", has("10.0.0.2:8080"))
	})
	t.Run("folder", func(t *testing.T) {
		base := t.TempDir()
		for i, address := range []string{"10.0.0.1", "10.0.0.2"} {
			version := filepath.Join(base, fmt.Sprint("release-", i))
			if err := os.Mkdir(version, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, version, "web.yaml", ingress("web", "one.example.com", "/")+"---\n"+service+"---\n"+endpoints(address))
		}
		current := filepath.Join(base, "current")
		swap(t, "release-0", current)
		s := start(t, current)
		until(t, s, "the first release", has("10.0.0.1:8080"))
		swap(t, "release-1", current)
		until(t, s, "the second release", has("10.0.0.2:8080"))
		write(t, filepath.Join(base, "release-1"), "more.yaml", ingress("more", "two.example.com", "/"))
		until(t, s, "a change after the swap", has("two.example.com"))
	})
}

// swap makes name a link to target, atomically.
func swap(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// TestBroken: what is broken is named with file, document and line; the rest counts, and
// what was good before stays.
func TestBroken(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", service+"---\n"+endpoints("10.0.0.1"))
	write(t, dir, "web.yaml", ingress("one", "one.example.com", "/")+"---\n"+ingress("two", "two.example.com", "/"))
	s := start(t, dir)
	until(t, s, "the first read", has("two.example.com"))

	write(t, dir, "web.yaml", ingress("one", "one.example.com", "/changed")+"---\n# the second\nkind: Ingress\n  apiVersion: [\n")
	until(t, s, "a broken document", func(d, p string) bool {
		return strings.Contains(d, "/changed") && // the valid document
			strings.Contains(d, "two.example.com") && // the last good version of the other
			strings.Contains(p, "Refused File web.yaml ManifestInvalid: web.yaml, document 2 (line 10): ") &&
			strings.Contains(p, "line 12: mapping values")
	})
	write(t, dir, "web.yaml", ingress("one", "one.example.com", "/"))
	until(t, s, "the repair", func(d, p string) bool { return !strings.Contains(d, "two.example.com") && p == "" })
}

func TestProblems(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no kind":          {"just: text\n", `web.yaml, document 1 (line 1): neither kind nor apiVersion is set: not a Kubernetes object`},
		"a scalar":         {"hello\n", "web.yaml, document 1 (line 1): this is text, not a Kubernetes object"},
		"a number":         {"5\n", "web.yaml, document 1 (line 1): this is a number, not a Kubernetes object"},
		"a list":           {"[a]\n", "web.yaml, document 1 (line 1): this is a list, not a Kubernetes object"},
		"a number in List": {"kind: List\napiVersion: v1\nitems: [5]\n", "web.yaml, document 1 (line 1), items[0]: this is a number, not a Kubernetes object"},
		"no items":         {"kind: List\napiVersion: v1\nitems: 5\n", "web.yaml, document 1 (line 1): items is a number, not a list"},
		"wrong type":       {strings.Replace(ingress("x", "h", "/"), "number: 80", "number: many", 1), "spec.rules.http.paths.backend.service.port.number is text, not a whole number"},
		"unknown field":    {strings.Replace(ingress("x", "h", "/"), "spec:", "spce: {}\nspec:", 1), `Warning File web.yaml ManifestWarning: web.yaml, document 1 (line 1): unknown field "spce"`},
		"old version":      {"apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: x}\n", "write it as networking.k8s.io/v1 before you apply it"},
		"old slice":        {"apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: x}\n", "write it as discovery.k8s.io/v1"},
		"no name":          {"apiVersion: v1\nkind: Service\n", "Service: metadata.name is missing"},
		"bad name":         {"apiVersion: v1\nkind: Service\nmetadata: {name: A_B}\n", `Service: metadata.name "A_B"`},
		"bad port":         {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 70000}]}\n", "spec.ports[0].port 70000"},
		"duplicate":        {service + "---\n" + service, "Warning Service default/a ObjectDuplicate: web.yaml, document 2 (line 6) defines it again: what stands in web.yaml, document 1 (line 1) counts"},
		"link to nothing":  {"", "web.yaml is a link to nothing"},
		"anchors unending": {"a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g]\n", "document contains excessive aliasing"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "valid.yaml", ingress("valid", "valid.example.com", "/"))
			if test.text == "" {
				swap(t, "nowhere", filepath.Join(dir, "web.yaml"))
			} else {
				write(t, dir, "web.yaml", test.text)
			}
			f := folder{path: dir, translator: kube.NewTranslator(kube.Options{Class: "kerngate", ClassOptional: true})}
			f.read(true)
			u := f.update()
			if got := dumpProblems(u.Problems); !strings.Contains(got, test.want) {
				t.Errorf("problems:\n%swant %q", got, test.want)
			}
			if !strings.Contains(u.Model.Dump(), "valid.example.com") {
				t.Error("the valid manifest is not served")
			}
		})
	}
}

// TestTruncated: programs that write in place empty the file first. That moment is not
// taken for the removal of everything in it.
func TestTruncated(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "web.yaml", ingress("web", "one.example.com", "/"))
	s := start(t, dir)
	until(t, s, "the first read", has("one.example.com"))
	f, err := os.OpenFile(filepath.Join(dir, "web.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	never(t, s, "the emptied file was believed", func(d, _ string) bool { return d == "" })
	if _, err := f.WriteString(ingress("web", "two.example.com", "/")); err != nil {
		t.Fatal(err)
	}
	until(t, s, "the new content", has("two.example.com"))

	write(t, dir, "web.yaml", "")
	until(t, s, "a file that stays empty", func(d, _ string) bool { return d == "" })
}

// TestFolderGone: the last state stays in force, and the folder may come back.
func TestFolderGone(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "manifests")
	os.Mkdir(dir, 0o755)
	write(t, dir, "web.yaml", ingress("web", "one.example.com", "/"))
	s := start(t, dir)
	until(t, s, "the first read", has("one.example.com"))
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	until(t, s, "the folder is gone", func(d, p string) bool {
		return strings.Contains(d, "one.example.com") && strings.Contains(p, "FolderUnreadable")
	})
	os.Mkdir(dir, 0o755)
	write(t, dir, "web.yaml", ingress("web", "two.example.com", "/"))
	until(t, s, "another folder", func(d, p string) bool {
		return strings.Contains(d, "two.example.com") && !strings.Contains(p, "FolderUnreadable")
	})
}

func TestMissingFolder(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "missing"), kube.Options{}, zerolog.Nop())
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Run: %v", err)
	}
}

// FuzzParse: no content of a file makes reading it fail.
func FuzzParse(f *testing.F) {
	f.Add([]byte(ingress("a", "b.example.com", "/") + "---\n" + service))
	f.Add([]byte("--- # comment\r\n---\r\n\ufeff{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		last := parse("a.yaml", []byte(service), nil)
		got := parse("a.yaml", raw, last)
		documents, _ := manifest.Split(raw)
		for _, d := range documents {
			if d.Line < 1 || len(d.Text) > 3*len(raw) { // U+FFFD is three bytes
				t.Errorf("document at line %d of %d bytes", d.Line, len(d.Text))
			}
		}
		(&folder{files: map[string]*file{"a.yaml": got}, translator: kube.NewTranslator(kube.Options{Class: "kerngate", ClassOptional: true})}).update()
	})
}

func secret(name string, data string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {name: " + name + "}\ntype: kubernetes.io/tls\n" + data
}

// TestSecrets: Secrets are read like every other object, with data or stringData, and what
// is wrong with one is said without repeating it.
func TestSecrets(t *testing.T) {
	authority := certtest.NewAuthority("Files CA")
	chain, key := authority.Pair(certtest.ECDSA, "a.example.com")
	indent := func(text []byte) string {
		return "    " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ") + "\n"
	}
	encode := base64.StdEncoding.EncodeToString

	dir := t.TempDir()
	write(t, dir, "service.yaml", service)
	write(t, dir, "ingress.yaml", ingress("one", "a.example.com", "/")+"  tls: [{hosts: [a.example.com], secretName: web-tls}]\n")
	write(t, dir, "secret.yaml", secret("web-tls", "stringData:\n  tls.crt: |\n"+indent(chain)+"  tls.key: |\n"+indent(key)))
	s := start(t, dir)
	u := <-s.Updates()
	if len(u.Model.Certificates) != 1 || string(u.Model.Certificates[0].Key) != string(key) || u.Model.Hosts[0].TLS.Certificates[0] != "default/web-tls" {
		t.Fatalf("%s%v", u.Model.Dump(), u.Problems)
	}

	chain, key = authority.Pair(certtest.ECDSA, "a.example.com", "b.example.com")
	write(t, dir, "secret.yaml", secret("web-tls", "data: {tls.crt: "+encode(chain)+", tls.key: "+encode(key)+"}\n"))
	if u = <-s.Updates(); len(u.Model.Certificates) != 1 || string(u.Model.Certificates[0].Key) != string(key) {
		t.Fatalf("renewed: %s%v", u.Model.Dump(), u.Problems)
	}

	// Broken in ways that make parsers quote what they see.
	for _, broken := range []string{
		secret("web-tls", "stringData:\n  tls.key: |\n"+string(key)),
		secret("web-tls", "data:\n  tls.crt: "+string(key)),
		secret("web-tls", "data: {tls.key: "+string(key)+"}\n"),
		secret("web-tls", "data: {tls.key: \""+encode(key)+"!\", tls.crt: "+encode(chain)+"}\n"),
		secret("web-tls", encode(key)+": "+encode(chain)+"\n"),
		secret("web-tls", "immutable: "+encode(key)+"\ndata: {tls.crt: "+encode(chain)+"}\n"),
		secret(encode(key), ""),
	} {
		write(t, dir, "secret.yaml", broken)
		u := <-s.Updates()
		text := fmt.Sprint(u.Problems)
		if part := certtest.Leaks(text, key); part != "" {
			t.Errorf("%q of the key is in %s", part, text)
		}
		if !strings.Contains(text, "secret.yaml") && !strings.Contains(text, "SecretInvalid") {
			t.Errorf("nothing is said of\n%s\n%s", broken, text)
		}
	}
}

// TestSettled: a file that has long been the same is not read again, and yet a change of it is
// seen that keeps its size, its inode and the time that programs can set.
func TestSettled(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", ingress("a", "one.example.com", "/"))
	f := folder{path: dir, translator: kube.NewTranslator(kube.Options{Class: "kerngate", ClassOptional: true})}
	time.Sleep(settle + 100*time.Millisecond) // nothing but the clock can make a file old
	if changed, _ := f.read(true); !changed {
		t.Fatal("a new file is no change")
	}
	path := filepath.Join(dir, "a.yaml")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !f.files["a.yaml"].stamp.settled(info) {
		t.Error("an old file would be read again")
	}
	changed := time.Now()
	write(t, dir, "a.yaml", ingress("a", "two.example.com", "/"))
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if changed, _ := f.read(true); !changed {
		t.Error("the change is not seen")
	}
	if now, err := os.Stat(path); time.Since(changed) < settle && (err != nil || f.files["a.yaml"].stamp.settled(now)) {
		t.Errorf("a file that has just changed counts as settled (%v)", err)
	}
}
