package main

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// binaries builds a small program for each architecture, under the names of ours. It links a module
// beside the standard library, for the bill of materials.
func binaries(t *testing.T) string {
	t.Helper()
	dir, source := t.TempDir(), t.TempDir()
	for file, text := range map[string]string{
		"go.mod":        "module example.test/program\n\ngo 1.26\n\nrequire example.test/linked v1.2.3\n\nreplace example.test/linked v1.2.3 => ./linked\n",
		"main.go":       "package main\n\nimport \"example.test/linked\"\n\nfunc main() { linked.F() }\n",
		"linked/go.mod": "module example.test/linked\n",
		"linked/l.go":   "package linked\n\nfunc F() {}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(source, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, arch := range architectures {
		for _, i := range images {
			for _, f := range i.files {
				cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, arch, f), ".")
				cmd.Dir = source
				cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOARCH="+arch)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
		}
	}
	return dir
}

// TestSameDigest: two builds give the same images, and what they were made of decides alone.
func TestSameDigest(t *testing.T) {
	bin := binaries(t)
	b := build{binaries: bin, version: "v1", revision: "abc", created: time.Unix(1700000000, 0).UTC()}
	digests := func() string {
		t.Helper()
		var out strings.Builder
		if err := b.write(filepath.Join(t.TempDir(), "layout"), &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	first := digests()
	later := time.Now().Add(time.Hour)
	for _, arch := range architectures {
		if err := os.Chtimes(filepath.Join(bin, arch, "kerngate-agent"), later, later); err != nil {
			t.Fatal(err)
		}
	}
	if second := digests(); second != first {
		t.Errorf("one build gives\n%s, the next\n%s", first, second)
	}
	f, err := os.OpenFile(filepath.Join(bin, "arm64", "kerngatectl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("x")
	f.Close()
	third := strings.Split(digests(), "\n")
	if was := strings.Split(first, "\n"); third[0] == was[0] || third[1] != was[1] {
		t.Errorf("with another kerngatectl: %v, was %v", third, was)
	}
}

// TestPush pushes to a registry and reads back what a node would pull and a scanner would ask for.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true)))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	dir := filepath.Join(t.TempDir(), "layout")
	args := []string{"--binaries", binaries(t), "--version", "v1", "--revision", "abc", "--created", "1700000000", "--out", dir}
	if err := run(args, io.Discard); err != nil {
		t.Fatal(err)
	}
	if from, err := layout.ImageIndexFromPath(dir); err != nil {
		t.Fatal(err)
	} else if err := validate.Index(from); err != nil {
		t.Error(err)
	}
	if err := run([]string{"--push", host + "/team", "--version", "v2", dir}, io.Discard); err == nil || !strings.Contains(err.Error(), "make images") {
		t.Errorf("another version was pushed: %v", err)
	}
	if err := run([]string{"--push", host + "/team", "--version", "v1", dir}, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		ref, err := name.NewTag(host + "/team/" + i.name + ":v1")
		if err != nil {
			t.Fatal(err)
		}
		for _, arch := range architectures {
			img, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
			if err != nil {
				t.Fatal(err)
			}
			config, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if config.Architecture != arch || config.Config.User != i.user || config.Config.Labels["org.opencontainers.image.revision"] != "abc" {
				t.Errorf("%s for %s: %+v", i.name, arch, config)
			}
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			checkReferrers(t, i, ref.Context().Digest(digest.String()))
		}
	}
}

// checkReferrers: one bill of materials, which lists the files and the modules in them.
func checkReferrers(t *testing.T, i image, image name.Digest) {
	t.Helper()
	index, err := remote.Referrers(image)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].ArtifactType != string(spdxType) {
		t.Fatalf("attached to %s: %+v", image, manifest.Manifests)
	}
	bom, err := remote.Image(image.Context().Digest(manifest.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := bom.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers: %v", len(layers), err)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var d document
	if err := json.NewDecoder(r).Decode(&d); err != nil {
		t.Fatal(err)
	}
	var modules, files []string
	for _, p := range d.Packages {
		modules = append(modules, p.Name)
	}
	for _, f := range d.Files {
		files = append(files, strings.TrimPrefix(f.Name, "./"))
	}
	if want := []string{i.name, "./linked", "example.test/program", "std"}; !same(modules, want) {
		t.Errorf("packages %v, want %v", modules, want)
	}
	if !same(files, i.files) {
		t.Errorf("files %v, want %v", files, i.files)
	}
	ids := map[string]bool{d.ID: true}
	for _, p := range d.Packages {
		ids[p.ID] = true
	}
	for _, f := range d.Files {
		ids[f.ID] = true
	}
	for _, r := range d.Relationships {
		if !ids[r.From] || !ids[r.To] {
			t.Errorf("%+v names what is not in the document", r)
		}
	}
}

func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// TestContainerfile: an engine builds the same content from the Containerfile, as far as reading it
// tells: files, user, entry point, labels, and the flags of the compiler.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("../../Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("../../scripts/images-build")
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string][]string{}
	var stage string
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if words[0] == "FROM" {
			stage = words[len(words)-1]
		}
		stages[stage] = append(stages[stage], strings.Join(words, " "))
	}
	b := build{version: "$VERSION", revision: "$REVISION"}
	for _, i := range images {
		got := stages[strings.TrimPrefix(i.name, "kerngate-")]
		var copied string
		for _, f := range i.files {
			copied += " /out/" + f
		}
		want := []string{"COPY --from=build" + copied + " /", `ENTRYPOINT ["/` + i.files[0] + `"]`, "WORKDIR /"}
		if i.user != "" {
			want = append(want, "USER "+i.user)
		}
		for key, value := range b.labels(i) {
			if key == "org.opencontainers.image.created" {
				continue // an engine's build says when it was made
			}
			found := slices.ContainsFunc(got, func(line string) bool {
				return strings.HasPrefix(line, "LABEL ") && strings.Contains(line, key+"="+quoted(value))
			})
			if !found {
				t.Errorf("the Containerfile lacks the label %s=%s of %s", key, quoted(value), i.name)
			}
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("the Containerfile's stage of %s lacks %q", i.name, line)
			}
		}
		if !slices.Contains(got, "USER "+i.user) && i.user == "" && slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "USER ") }) {
			t.Errorf("the Containerfile gives %s a user", i.name)
		}
	}
	flags := `-trimpath -buildvcs=false -ldflags "-s -w -X main.version=$` + "%s\""
	for file, f := range map[string]string{string(script): "version", string(text): "VERSION"} {
		if want := strings.ReplaceAll(flags, "%s", f); !strings.Contains(file, want) {
			t.Errorf("not built with %s", want)
		}
	}
}

func quoted(s string) string { return `"` + s + `"` }
