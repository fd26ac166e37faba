package kube_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

// TestTranslatorAgrees: the objects of all scenarios, of which those of one name are versions
// of one object, come, change and go at random. After each step what a translator has sent
// must add up to a translation from nothing. KERNGATE_TRANSLATOR_STEPS and
// KERNGATE_TRANSLATOR_SEED set how many steps, and which.
func TestTranslatorAgrees(t *testing.T) {
	versions := map[model.ObjectRef][]kube.Objects{}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for k, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range decodeAll(t, section(archive, "input.yaml")) {
			o.SetAge(i)
			var one kube.Objects
			one.Add(o)
			for _, ingress := range one.Ingresses { // most scenarios call theirs "web": have several
				o.Ref.Name += fmt.Sprint("-", k%12)
				ingress.Name = o.Ref.Name
			}
			versions[o.Ref] = append(versions[o.Ref], one)
		}
	}
	// Without a bound of what a namespace may add, and with one that some Ingresses exceed.
	for _, bytes := range []int{0, 4000} {
		t.Run(fmt.Sprintf("%d bytes", bytes), func(t *testing.T) { agrees(t, versions, bytes) })
	}
}

func agrees(t *testing.T, versions map[model.ObjectRef][]kube.Objects, namespaceBytes int) {
	refs := slices.SortedFunc(maps.Keys(versions), func(a, b model.ObjectRef) int { return cmp.Compare(a.String(), b.String()) })
	seed := number("KERNGATE_TRANSLATOR_SEED", 1)
	r := rand.New(rand.NewPCG(seed, 2))
	options := kube.Options{
		Class: "kerngate", ClassOptional: true, Node: "n1", AllowExternalName: true,
		DefaultBackend: model.ServiceKey{Namespace: "default", Name: "web", Port: "80"}, DefaultCertificate: "default/web-tls",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, TCPServices: "default/tcp", Defence: "default/defence", IngressNginx: "default/settings",
		FabricService: "kerngate-system/kerngate", ProxyService: "kerngate-system/kerngate",
		NamespaceBytes: namespaceBytes,
	}
	there := map[model.ObjectRef]kube.Objects{}
	settings := model.ObjectRef{Kind: "ConfigMap", Namespace: "default", Name: "settings"}
	there[settings] = versions[settings][0]
	translator := kube.NewTranslator(options)
	var sum state
	steps := int(number("KERNGATE_TRANSLATOR_STEPS", 400))
	narrow, hosts, refused := 0, 0, 0
	for step := range steps {
		var changed []string
		for range 1 + r.IntN(3) {
			ref := refs[r.IntN(len(refs))]
			for (ref.Kind == "IngressClass" || ref == settings) && r.IntN(10) > 0 { // they concern everything
				ref = refs[r.IntN(len(refs))]
			}
			if step%20 == 7 && r.IntN(2) == 0 {
				ref = settings
			}
			if _, has := there[ref]; has && r.IntN(4) == 0 {
				delete(there, ref)
			} else {
				there[ref] = versions[ref][r.IntN(len(versions[ref]))]
			}
			changed = append(changed, ref.String())
		}
		var objects kube.Objects
		for _, ref := range refs {
			if o, has := there[ref]; has {
				objects.Ingresses = append(objects.Ingresses, o.Ingresses...)
				objects.Classes = append(objects.Classes, o.Classes...)
				objects.Services = append(objects.Services, o.Services...)
				objects.Slices = append(objects.Slices, o.Slices...)
				objects.Secrets = append(objects.Secrets, o.Secrets...)
				objects.ConfigMaps = append(objects.ConfigMaps, o.ConfigMaps...)
			}
		}
		translator.Replace(objects)
		u := sum.take(t, translator)
		if u.Changed != nil {
			narrow, hosts = narrow+len(u.Changed.Hosts), hosts+len(u.Model.Hosts)
		}
		m, problems := kube.Translate(objects, options)
		for _, p := range problems {
			if p.Reason == "NamespaceBudget" {
				refused++
			}
		}
		if diff := gocmp.Diff(m.Dump()+dumpProblems(problems), sum.String()); diff != "" {
			t.Fatalf("seed %d, step %d, after %q (-from nothing +translator):\n%s", seed, step, changed, diff)
		}
		if step%5 == 0 {
			fresh := kube.NewTranslator(options)
			fresh.Replace(objects)
			first, _ := fresh.Update()
			if diff := gocmp.Diff(fmt.Sprint(first.Statuses), fmt.Sprint(sum.statuses)); diff != "" {
				t.Fatalf("seed %d, step %d, after %q: statuses (-from nothing +translator):\n%s", seed, step, changed, diff)
			}
		}
	}
	t.Logf("%d objects at the end; %d hosts were translated again in %d steps of %d hosts on average", len(there), narrow, steps, hosts/steps)
	if (refused > 0) != (namespaceBytes > 0) {
		t.Errorf("%d times an Ingress was refused for want of room, with %d bytes for a namespace", refused, namespaceBytes)
	}
	if narrow*4 > hosts {
		t.Errorf("%d hosts were translated again of %d: a change is to cost what it concerns", narrow, hosts)
	}
}

// TestNothingNew: objects that are written again with the same content, as controllers do with
// EndpointSlices and people with `kubectl apply`, are no update for anybody.
func TestNothingNew(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, options := read(t, archive)
			translator := kube.NewTranslator(options)
			services := map[types.NamespacedName]struct{}{}
			for _, s := range first.Services {
				services[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = struct{}{}
			}
			if u, ok := translator.EndpointsChanged(services); ok {
				t.Errorf("an update of endpoints before the first one: %+v", u)
			}
			translator.Replace(first)
			if _, ok := translator.Update(); !ok {
				t.Fatal("the first update never says that nothing has changed")
			}
			again, _ := read(t, archive)
			translator.Replace(again)
			if u, ok := translator.Update(); ok {
				t.Errorf("an update although nothing has changed: %+v", u.Changed)
			}
			if u, ok := translator.EndpointsChanged(services); ok {
				t.Errorf("an update of endpoints that have not changed: %+v %+v", u.Services, u.L4)
			}
		})
	}
}

func number(variable string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(variable), 10, 32); err == nil {
		return n
	}
	return otherwise
}
