package main

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

const licence = "Apache-2.0"

// The parts of an SPDX 2.3 document (spdx.github.io/spdx-spec/v2.3) that are needed here.
type (
	document struct {
		ID            string         `json:"SPDXID"`
		Version       string         `json:"spdxVersion"`
		DataLicence   string         `json:"dataLicense"`
		Name          string         `json:"name"`
		Namespace     string         `json:"documentNamespace"`
		Creation      creation       `json:"creationInfo"`
		Packages      []component    `json:"packages"`
		Files         []file         `json:"files"`
		Relationships []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	component struct {
		ID               string     `json:"SPDXID"`
		Name             string     `json:"name"`
		Version          string     `json:"versionInfo"`
		Download         string     `json:"downloadLocation"`
		FilesAnalyzed    bool       `json:"filesAnalyzed"`
		Verification     *code      `json:"packageVerificationCode,omitempty"` // needed where files are listed
		LicenceConcluded string     `json:"licenseConcluded"`
		LicenceDeclared  string     `json:"licenseDeclared"`
		Copyright        string     `json:"copyrightText"`
		Comment          string     `json:"comment,omitempty"`
		Refs             []external `json:"externalRefs,omitempty"`
	}
	code struct {
		Value string `json:"packageVerificationCodeValue"`
	}
	external struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	file struct {
		ID               string     `json:"SPDXID"`
		Name             string     `json:"fileName"`
		Types            []string   `json:"fileTypes"`
		Checksums        []checksum `json:"checksums"`
		LicenceConcluded string     `json:"licenseConcluded"`
		Copyright        string     `json:"copyrightText"`
	}
	checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	relationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// spdx is the bill of materials of an image: its files, and the Go modules that the linker has
// written into each (as `go version -m` shows them), which are those whose code is in it.
func (b build) spdx(i image, arch string) ([]byte, error) {
	const root = "SPDXRef-Image"
	d := document{ID: "SPDXRef-DOCUMENT", Version: "SPDX-2.3", DataLicence: "CC0-1.0", Name: i.name + "-" + b.version + "-" + arch,
		Creation: creation{Created: b.created.Format(time.RFC3339), Creators: []string{"Organization: Kerngate", "Tool: kerngate-images"}}}
	d.Packages = append(d.Packages, component{ID: root, Name: i.name, Version: b.version, Download: "NOASSERTION",
		LicenceConcluded: "NOASSERTION", LicenceDeclared: licence, Copyright: "NOASSERTION"})
	d.Relationships = append(d.Relationships, relationship{d.ID, "DESCRIBES", root})
	content := sha256.New() // of all files: what makes the document's name its own
	var sums []string
	modules := map[string]component{}
	for _, name := range i.files {
		path := filepath.Join(b.binaries, arch, name)
		binary, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		content.Write(binary)
		short, long := sha1.Sum(binary), sha256.Sum256(binary)
		sums = append(sums, hex.EncodeToString(short[:]))
		f := file{ID: "SPDXRef-File-" + name, Name: "./" + name, Types: []string{"BINARY"}, LicenceConcluded: "NOASSERTION", Copyright: "NOASSERTION",
			Checksums: []checksum{{"SHA1", sums[len(sums)-1]}, {"SHA256", hex.EncodeToString(long[:])}}}
		d.Files = append(d.Files, f)
		d.Relationships = append(d.Relationships, relationship{root, "CONTAINS", f.ID})
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if arch != setting(info, "GOARCH") {
			return nil, fmt.Errorf("%s is built for %s", path, setting(info, "GOARCH"))
		}
		for _, m := range linked(info, b.version) {
			modules[m.ID] = m
			d.Relationships = append(d.Relationships, relationship{f.ID, "STATIC_LINK", m.ID})
		}
	}
	slices.Sort(sums)
	all := sha1.Sum([]byte(strings.Join(sums, "")))
	d.Packages[0].FilesAnalyzed, d.Packages[0].Verification = true, &code{hex.EncodeToString(all[:])}
	for _, m := range modules {
		d.Packages = append(d.Packages, m)
	}
	slices.SortFunc(d.Packages[1:], func(a, b component) int { return cmp.Compare(a.ID, b.ID) })
	d.Namespace = "https://kerngate.dev/spdx/" + d.Name + "-" + hex.EncodeToString(content.Sum(nil))
	text, err := json.MarshalIndent(d, "", " ")
	return append(text, '\n'), err
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// linked are the modules in a binary: ours, the standard library, and all others.
func linked(info *debug.BuildInfo, version string) []component {
	own := module(info.Main.Path, version)
	own.LicenceDeclared = licence
	std := module("std", strings.TrimPrefix(info.GoVersion, "go"))
	std.LicenceDeclared = "BSD-3-Clause"
	found := []component{own, std}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := module(m.Path, m.Version)
		c.Comment = "go.sum: " + m.Sum
		found = append(found, c)
	}
	return found
}

func module(path, version string) component {
	// An id may hold letters, digits, dots and dashes.
	id := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", r) {
			return r
		}
		return '-'
	}, path+"-"+version)
	return component{ID: "SPDXRef-Module-" + id, Name: path, Version: version, Download: "NOASSERTION", LicenceConcluded: "NOASSERTION",
		LicenceDeclared: "NOASSERTION", Copyright: "NOASSERTION",
		Refs: []external{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + strings.ReplaceAll(path+"@"+version, "+", "%2B")}}}
}
