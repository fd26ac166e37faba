package gateway_test

import (
	"encoding/base64"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

var update = flag.Bool("update", false, "rewrite the expected parts of testdata/*.txtar")

// TestScenarios translates each testdata/*.txtar with package kube, which joins Gateway API with
// Ingress: prose that says what is shown, objects (input.yaml, to which those of common.yaml are
// added), and what must come out: the model, the problems and the conditions. A line "deny" in
// options stands for --shared-hosts=deny.
//
// The same comes out whatever the order of the objects, and when they come and go one by one.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scenarios, %v", len(files), err)
	}
	common, err := os.ReadFile("testdata/common.yaml")
	if err != nil {
		t.Fatal(err)
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
			objects := decode(t, section(archive, "input.yaml")+"\n---\n"+string(common))
			options := optionsOf()
			if strings.Contains(section(archive, "options"), "deny") {
				options.SharedHosts = kube.SharedHostsDeny
			}
			got := translate(t, objects, options)
			if *update {
				for i, f := range archive.Files {
					if text, ok := got[f.Name]; ok {
						archive.Files[i].Data = []byte(text)
						delete(got, f.Name)
					}
				}
				for _, name := range []string{"model", "problems", "status"} {
					if text, missing := got[name]; missing {
						archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(text)})
					}
				}
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, part := range []string{"model", "problems", "status"} {
				if diff := cmp.Diff(section(archive, part), got[part]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", part, diff)
				}
			}
			r := rand.New(rand.NewPCG(1, 2))
			steps := kube.NewTranslator(options)
			for i := range 8 {
				r.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
				some := slices.DeleteFunc(slices.Clone(objects), func(kube.Object) bool { return r.IntN(8) < 7-i })
				want := translate(t, some, options)
				if diff := cmp.Diff(want, advance(t, steps, some)); diff != "" {
					t.Fatalf("step %d: a translator that has seen other objects before has another result (-from nothing +translator):\n%s", i, diff)
				}
				m, problems := kube.Translate(all(some), options)
				if diff := cmp.Diff(want["model"]+want["problems"], m.Dump()+dump(problems)); diff != "" {
					t.Fatalf("step %d: Translate has another result than a translator (-translator +Translate):\n%s", i, diff)
				}
			}
		})
	}
}

func optionsOf() kube.Options {
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}
	return kube.Options{Class: "kerngate", ClassOptional: true, Addresses: addresses, Listeners: model.IngressListeners(addresses, 80, 443, false)}
}

// translate returns what a translator that has seen nothing before makes of objects.
func translate(t *testing.T, objects []kube.Object, options kube.Options) map[string]string {
	t.Helper()
	return advance(t, kube.NewTranslator(options), objects)
}

func advance(t *testing.T, steps *kube.Translator, objects []kube.Object) map[string]string {
	t.Helper()
	steps.Replace(all(objects))
	u, _ := steps.Update()
	var status strings.Builder
	for _, p := range u.Statuses.Published {
		fmt.Fprintf(&status, "%s is published at %v\n", p.Object, p.Addresses)
	}
	for _, f := range u.Statuses.Findings {
		fmt.Fprintln(&status, f)
	}
	for _, a := range u.Statuses.Attached {
		fmt.Fprintf(&status, "%s listener %s takes %v, has %d\n", a.Gateway, a.Listener, a.Kinds, a.Routes)
	}
	return map[string]string{"model": u.Model.Dump(), "problems": dump(u.Problems), "status": status.String()}
}

func all(objects []kube.Object) (out kube.Objects) {
	for _, o := range objects {
		out.Add(o)
	}
	return out
}

func dump(problems []model.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

func section(archive *txtar.Archive, name string) string {
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

var authority = certtest.NewAuthority("scenarios")

// decode returns the objects of all documents; those that come first are older. {{pair "ecdsa"
// "a.example.com"}} stands for the data of a kubernetes.io/tls Secret.
func decode(t testing.TB, text string) (out []kube.Object) {
	t.Helper()
	parsed, err := template.New("").Funcs(template.FuncMap{"pair": func(kind string, names ...string) string {
		chain, key := authority.Pair(kind, names...)
		return fmt.Sprintf("tls.crt: %s, tls.key: %s", base64.StdEncoding.EncodeToString(chain), base64.StdEncoding.EncodeToString(key))
	}}).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := parsed.Execute(&b, nil); err != nil {
		t.Fatal(err)
	}
	for i, document := range strings.Split(b.String(), "\n---\n") {
		decoded, warnings, err := kube.Decode([]byte(document))
		if err != nil || len(warnings) > 0 {
			t.Fatalf("document %d: %v %v", i, err, warnings)
		}
		for _, o := range decoded {
			o.SetAge(i)
			out = append(out, o)
		}
	}
	return out
}
