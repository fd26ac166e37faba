package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPackagesThatRunGoroutines(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                  "module example.test/m\n",
		"a/plain/plain.go":        "package plain\n",
		"a/plain/plain_test.go":   "package plain\n",
		"a/direct/direct.go":      "package direct\nfunc f() { go f() }\n",
		"a/direct/direct_test.go": "package direct\n",
		"a/linked/linked.go":      "package linked\nimport _ \"example.test/m/a/middle\"\n",
		"a/linked/linked_test.go": "package linked\n",
		"a/middle/middle.go":      "package middle\nimport _ \"example.test/m/a/direct\"\n",
		"a/tested/tested.go":      "package tested\n",
		"a/tested/tested_test.go": "package tested\nimport \"testing\"\nfunc TestX(t *testing.T) { t.Parallel() }\n",
		"a/server/server.go":      "package server\nimport _ \"net/http\"\n",
		"a/server/server_test.go": "package server\n",
		"b/other/other_test.go":   "package other\nfunc f() { go f() }\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := run(root, []string{"a"}, &out); err != nil {
		t.Fatal(err)
	}
	want := "example.test/m/a/direct\nexample.test/m/a/linked\nexample.test/m/a/server\nexample.test/m/a/tested\n"
	if out.String() != want {
		t.Errorf("packages:\n%swant:\n%s", out.String(), want)
	}
	if err := run(root, []string{"c"}, &out); err == nil {
		t.Error("a folder without any: no error, so that a renamed folder would switch the race detector off unseen")
	}
}
