package kube_test

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/kerngate/kerngate/userspace/control/kube"
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
			checkInvariants(t, m, problems)
			checkOrder(t, objects, options, m, problems)
			checkSteps(t, objects, options, got["model"]+got["problems"])

			options.Listeners, options.Addresses, options.AddressPool = nil, nil, nil // L4 services have nothing to be published on
			options.FabricService, options.ProxyService, options.Defence, options.IngressNginx = "", "", "", ""
			objects.Ingresses, options.DefaultBackend, options.DefaultCertificate = nil, model.ServiceKey{}, ""
			if m, _ := kube.Translate(objects, options); m.Dump() != "" {
				t.Errorf("without Ingresses something is left:\n%s", m.Dump())
			}
		})
	}
}

// checkInvariants: what the model's own comments promise.
func checkInvariants(t *testing.T, m model.Model, problems []model.Problem) {
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
	checkTrust(t, m, problems)
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

// checkSteps: a translator that gets the objects one by one, in any order, and others between
// that it loses again, ends where a translation from nothing does.
func checkSteps(t *testing.T, o kube.Objects, options kube.Options, want string) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	for range 3 {
		steps := kube.NewTranslator(options)
		kept := kube.Objects{SecretsUnreadable: o.SecretsUnreadable, ConfigMapsUnreadable: o.ConfigMapsUnreadable}
		kept.Gateway.Namespaces = o.Gateway.Namespaces
		var state state
		for i := range 12 {
			share := float64(i) / 11
			next := kept
			next.Ingresses, next.Classes = some(r, o.Ingresses, share), some(r, o.Classes, share)
			next.Services, next.Slices = some(r, o.Services, share), some(r, o.Slices, share)
			next.Secrets, next.ConfigMaps = some(r, o.Secrets, share), some(r, o.ConfigMaps, share)
			steps.Replace(next)
			state.take(t, steps)
			m, problems := kube.Translate(next, options)
			if diff := cmp.Diff(m.Dump()+dumpProblems(problems), state.String()); diff != "" {
				t.Fatalf("step %d: a translator that has seen other objects before has another result (-from nothing +translator):\n%s", i, diff)
			}
		}
		if diff := cmp.Diff(want, state.String()); diff != "" {
			t.Fatalf("with all objects:\n%s", diff)
		}
	}
}

// some returns each object with the probability of share.
func some[T any](r *rand.Rand, all []T, share float64) (out []T) {
	for _, o := range all {
		if share == 1 || r.Float64() < share {
			out = append(out, o)
		}
	}
	return out
}

// state is what updates add up to for one who believes what they say has changed.
type state struct {
	model    model.Model
	problems []model.Problem
	statuses model.Statuses
}

func (s *state) String() string { return s.model.Dump() + dumpProblems(s.problems) }

// take takes over an update, and only what it says has changed.
func (s *state) take(t *testing.T, from *kube.Translator) (u model.Update) {
	t.Helper()
	u, ok := from.Update()
	if !ok {
		return u
	}
	s.problems, s.statuses = u.Problems, u.Statuses
	if u.Changed == nil {
		s.model = *u.Model
		return u
	}
	hosts := map[string]model.Host{}
	for _, h := range u.Model.Hosts {
		hosts[h.Name] = h
	}
	s.model.Listeners = u.Model.Listeners
	s.model.Hosts = slices.DeleteFunc(slices.Clone(s.model.Hosts), func(h model.Host) bool { return slices.Contains(u.Changed.Hosts, h.Name) })
	for _, name := range u.Changed.Hosts {
		if h, there := hosts[name]; there {
			s.model.Hosts = append(s.model.Hosts, h)
		}
	}
	slices.SortFunc(s.model.Hosts, func(a, b model.Host) int { return strings.Compare(a.Name, b.Name) })
	if u.Changed.Trust {
		s.model.Certificates, s.model.Authorities, s.model.DefaultCertificate = u.Model.Certificates, u.Model.Authorities, u.Model.DefaultCertificate
	}
	if u.Changed.Services {
		s.model.Services, s.model.L4, s.model.Members, s.model.Proxies = u.Model.Services, u.Model.L4, u.Model.Members, u.Model.Proxies
		s.model.Default, s.model.Defence, s.model.HSTS, s.model.ForwardedFor = u.Model.Default, u.Model.Defence, u.Model.HSTS, u.Model.ForwardedFor
	}
	return u
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

		HTTPPort  uint16 `json:"httpPort"` // of listeners at the addresses; 0: none
		HTTPSPort uint16 `json:"httpsPort"`
		HTTP3     bool   `json:"http3"`

		DefaultCertificate string            `json:"defaultCertificate"`
		SecretsUnreadable  map[string]string `json:"secretsUnreadable"`

		ConfigMapsUnreadable   map[string]string `json:"configMapsUnreadable"`
		IngressNginx           string            `json:"ingressNginx"`
		WithoutClass           bool              `json:"withoutClass"`
		NoCatchAll             bool              `json:"noCatchAll"`
		AllowedResponseHeaders []string          `json:"allowedResponseHeaders"`
		SharedHosts            string            `json:"sharedHosts"`
		NamespaceBytes         int               `json:"namespaceBytes"`
		NamespaceSelector      string            `json:"namespaceSelector"`
	}{Class: "kerngate", ClassOptional: true, SharedHosts: "warn"}
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
	shared, err := kube.ParseSharedHosts(options.SharedHosts)
	if err != nil {
		t.Fatal(err)
	}
	var selector labels.Selector
	if options.NamespaceSelector != "" {
		if selector, err = labels.Parse(options.NamespaceSelector); err != nil {
			t.Fatal(err)
		}
	}
	objects := objectsOf(t, section(archive, "input.yaml"))
	objects.SecretsUnreadable, objects.ConfigMapsUnreadable = options.SecretsUnreadable, options.ConfigMapsUnreadable
	return objects, kube.Options{
		Class: options.Class, ClassOptional: options.ClassOptional, DefaultBackend: key,
		AllowExternalName: options.AllowExternalName, Node: options.Node, PreferLocal: options.PreferLocal,
		StrictAnnotations:  options.StrictAnnotations,
		NamespaceSelector:  selector,
		DefaultCertificate: options.DefaultCertificate,
		Listeners:          model.IngressListeners(options.Addresses, options.HTTPPort, options.HTTPSPort, options.HTTP3),
		Addresses:          options.Addresses, AddressPool: options.AddressPool, TCPServices: options.TCPServices, UDPServices: options.UDPServices,
		Defence:                options.Defence,
		IngressNginx:           options.IngressNginx,
		WithoutClass:           options.WithoutClass,
		NoCatchAll:             options.NoCatchAll,
		ProxyService:           options.ProxyService,
		FabricService:          options.FabricService,
		NamespaceBytes:         options.NamespaceBytes,
		AllowedResponseHeaders: options.AllowedResponseHeaders,
		SharedHosts:            shared,
	}
}

func objectsOf(t testing.TB, text string) (objects kube.Objects) {
	t.Helper()
	for _, o := range decodeAll(t, text) {
		objects.Add(o)
	}
	return objects
}

// decodeAll returns the objects of all documents; those that come first are older.
func decodeAll(t testing.TB, text string) (all []kube.Object) {
	t.Helper()
	for i, document := range strings.Split(expand(t, text), "\n---\n") {
		decoded, warnings, err := kube.Decode([]byte(document))
		if err != nil || len(warnings) > 0 {
			t.Fatalf("document %d: %v %v", i, err, warnings)
		}
		for _, o := range decoded {
			o.SetAge(i)
			all = append(all, o)
		}
	}
	return all
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
