package kube_test

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/kerngate/kerngate/userspace/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

var update = flag.Bool("update", false, "rewrite the expected parts of testdata/*.txtar")

// TestScenarios translates each testdata/*.txtar: prose that says what is shown, objects
// (input.yaml), options if they differ from the usual (options.yaml), and then what must
// come out: the model, the problems, and what of it is left when the Ingresses are gone.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 35 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.TrimSpace(string(archive.Comment))) == 0 {
				t.Error("the scenario does not say what it shows")
			}
			objects, options := read(t, archive)
			m, problems := kube.Translate(objects, options)
			got := map[string]string{"model": m.Dump(), "problems": dumpProblems(problems)}
			if *update {
				rewrite(t, file, archive, got)
				return
			}
			for _, part := range []string{"model", "problems"} {
				if diff := cmp.Diff(section(archive, part), got[part]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", part, diff)
				}
			}
			checkInvariants(t, m)
			checkOrder(t, objects, options, m, problems)

			options.Addresses, options.AddressPool = nil, nil // L4 services have nothing to be published on
			options.FabricService, options.ProxyService, options.Defence = "", "", ""
			objects.Ingresses, options.DefaultBackend, options.DefaultCertificate = nil, model.ServiceKey{}, ""
			if m, _ := kube.Translate(objects, options); m.Dump() != "" {
				t.Errorf("without Ingresses something is left:\n%s", m.Dump())
			}
		})
	}
}

// checkInvariants: what the model's own comments promise.
func checkInvariants(t *testing.T, m model.Model) {
	t.Helper()
	have := map[model.ServiceKey]bool{{}: true}
	for i, s := range m.Services {
		have[s.Key] = true
		if i > 0 && kube.CompareKeys(m.Services[i-1].Key, s.Key) >= 0 {
			t.Errorf("services are not sorted at %s", s.Key)
		}
		for j, b := range s.Backends {
			if j > 0 && s.Backends[j-1].Address.Compare(b.Address) >= 0 {
				t.Errorf("%s: backends are not sorted or not unique at %s", s.Key, b.Address)
			}
		}
	}
	checkTrust(t, m)
	if !have[m.Default] {
		t.Errorf("default %s is not among the services", m.Default)
	}
	for i, h := range m.Hosts {
		if i > 0 && m.Hosts[i-1].Name >= h.Name {
			t.Errorf("hosts are not sorted or not unique at %q", h.Name)
		}
		for j, r := range h.Routes {
			if !strings.HasPrefix(r.Path, "/") || r.Match == model.Prefix && len(r.Path) > 1 && strings.HasSuffix(r.Path, "/") {
				t.Errorf("host %q: path %q", h.Name, r.Path)
			}
			if !have[r.Service] {
				t.Errorf("host %q: service %s is missing", h.Name, r.Service)
			}
			if j > 0 {
				before := h.Routes[j-1]
				if len(before.Path) < len(r.Path) || before.Path == r.Path && !(before.Match == model.Exact && r.Match == model.Prefix) {
					t.Errorf("host %q: %s %q stands before %s %q", h.Name, before.Match, before.Path, r.Match, r.Path)
				}
			}
		}
	}
}

// checkOrder: the order in which objects arrive does not matter.
func checkOrder(t *testing.T, o kube.Objects, options kube.Options, m model.Model, problems []model.Problem) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		shuffle(r, o.Ingresses)
		shuffle(r, o.Classes)
		shuffle(r, o.Services)
		shuffle(r, o.Slices)
		shuffle(r, o.ConfigMaps)
		shuffle(r, o.Secrets)
		again, problemsAgain := kube.Translate(o, options)
		if diff := cmp.Diff(m.Dump()+dumpProblems(problems), again.Dump()+dumpProblems(problemsAgain)); diff != "" {
			t.Fatalf("another order of the input gives another result:\n%s", diff)
		}
	}
}

func shuffle[T any](r *rand.Rand, s []T) {
	r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func read(t testing.TB, archive *txtar.Archive) (kube.Objects, kube.Options) {
	t.Helper()
	options := struct {
		Class             string `json:"class"`
		ClassOptional     bool   `json:"classOptional"`
		DefaultBackend    string `json:"defaultBackend"`
		AllowExternalName bool   `json:"allowExternalName"`
		Node              string `json:"node"`
		PreferLocal       bool   `json:"preferLocal"`
		StrictAnnotations bool   `json:"strictAnnotations"`

		Addresses   []netip.Addr   `json:"addresses"`
		AddressPool []netip.Prefix `json:"addressPool"`
		TCPServices string         `json:"tcpServices"`
		UDPServices string         `json:"udpServices"`
		Defence     string         `json:"defence"`

		FabricService string `json:"fabricService"`
		ProxyService  string `json:"proxyService"`

		DefaultCertificate string            `json:"defaultCertificate"`
		SecretsUnreadable  map[string]string `json:"secretsUnreadable"`

		ConfigMapsUnreadable   map[string]string `json:"configMapsUnreadable"`
		AllowedResponseHeaders []string          `json:"allowedResponseHeaders"`
	}{Class: "kerngate", ClassOptional: true}
	if err := yaml.UnmarshalStrict([]byte(section(archive, "options.yaml")), &options); err != nil {
		t.Fatalf("options.yaml: %v", err)
	}
	var key model.ServiceKey
	if options.DefaultBackend != "" {
		var err error
		if key, err = kube.ParseServiceKey(options.DefaultBackend); err != nil {
			t.Fatal(err)
		}
	}
	objects := objectsOf(t, section(archive, "input.yaml"))
	objects.SecretsUnreadable, objects.ConfigMapsUnreadable = options.SecretsUnreadable, options.ConfigMapsUnreadable
	return objects, kube.Options{
		Class: options.Class, ClassOptional: options.ClassOptional, DefaultBackend: key,
		AllowExternalName: options.AllowExternalName, Node: options.Node, PreferLocal: options.PreferLocal,
		StrictAnnotations:  options.StrictAnnotations,
		DefaultCertificate: options.DefaultCertificate,
		Addresses:          options.Addresses, AddressPool: options.AddressPool, TCPServices: options.TCPServices, UDPServices: options.UDPServices,
		Defence:                options.Defence,
		ProxyService:           options.ProxyService,
		FabricService:          options.FabricService,
		AllowedResponseHeaders: options.AllowedResponseHeaders,
	}
}

func objectsOf(t testing.TB, text string) kube.Objects {
	t.Helper()
	var objects kube.Objects
	for i, document := range strings.Split(expand(t, text), "\n---\n") {
		decoded, warnings, err := kube.Decode([]byte(document))
		if err != nil || len(warnings) > 0 {
			t.Fatalf("document %d: %v %v", i, err, warnings)
		}
		for _, o := range decoded {
			o.SetAge(i)
			objects.Add(o)
		}
	}
	return objects
}

func section(archive *txtar.Archive, name string) string {
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func rewrite(t *testing.T, file string, archive *txtar.Archive, got map[string]string) {
	t.Helper()
	for _, name := range []string{"model", "problems"} {
		i := 0
		for i < len(archive.Files) && archive.Files[i].Name != name {
			i++
		}
		if i == len(archive.Files) {
			archive.Files = append(archive.Files, txtar.File{Name: name})
		}
		archive.Files[i].Data = []byte(got[name])
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func dumpProblems(problems []model.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}
