//go:build linux && applications

package applications

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// all are the applications, in the order of the table.
var all = []*application{&gitHTTP, &curlUploads, &gunicorn, &phpFPM, &subversion, &node, &postgres, &mosquitto, &grpcURL, &pebble, &oauth2Proxy}

// tableFile is the table of what was tried. KERNGATE_APPLICATIONS_TABLE=write has a run of all
// tests write it.
const tableFile = "../../docs/applications.md"

const tableHead = `# Real applications

Each conversation below is a test of test/applications: a real server runs as a pod, its real
client runs on another host, and the same conversation is had with the pod itself, through
Kerngate, and through an nginx (Debian's) that is configured as ingress-nginx 1.x configures it. "The
same" means that client and application saw what they see without an ingress, or what the test
says they must see: the bytes that the application received, status codes, exit statuses.
` + "`make test-applications`" + ` writes this file; do not edit it.

`

// noted are the versions of the applications whose conversations all passed.
var noted struct {
	sync.Mutex
	versions map[string]string
}

func note(a *application, version string) {
	noted.Lock()
	defer noted.Unlock()
	if noted.versions == nil {
		noted.versions = map[string]string{}
	}
	noted.versions[a.name] = version
}

// row is a line of the table without the version.
type row struct{ application, does, kerngate, nginx string }

func (a *application) rows() (rows []row) {
	for _, c := range a.conversations {
		result := func(through string) string {
			if why, ok := c.differs[through]; ok {
				return "differs: " + why
			}
			return "the same"
		}
		rows = append(rows, row{a.name, c.does, result(kerngate), result(nginx)})
	}
	return rows
}

// writeTable writes the table if that is asked for and every application was tried.
func writeTable() error {
	if os.Getenv("KERNGATE_APPLICATIONS_TABLE") != "write" {
		return nil
	}
	var b strings.Builder
	b.WriteString(tableHead)
	for _, a := range all {
		version, ok := noted.versions[a.name]
		if !ok {
			return fmt.Errorf("%s was not tried (-run?): %s stays as it is", a.name, tableFile)
		}
		fmt.Fprintf(&b, "## %s\n\n%s. Versions: %s.\n\n", a.name, a.source, version)
		b.WriteString("| Conversation | Through Kerngate | Through nginx |\n| --- | --- | --- |\n")
		for _, r := range a.rows() {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.does, r.kerngate, r.nginx)
		}
		b.WriteString("\n")
	}
	return os.WriteFile(tableFile, []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

// TestTable: docs/applications.md has a row for each conversation, with its results, and no
// others.
func TestTable(t *testing.T) {
	if os.Getenv("KERNGATE_APPLICATIONS_TABLE") == "write" {
		t.Log("this run writes the table")
		return
	}
	text, err := os.ReadFile(tableFile)
	must(t, err)
	var have, want []row
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			name = heading
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || strings.HasPrefix(line, "| Conversation") || strings.HasPrefix(line, "| ---") {
			continue
		}
		have = append(have, row{name, strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])})
	}
	for _, a := range all {
		want = append(want, a.rows()...)
	}
	if !slices.Equal(have, want) {
		t.Errorf("%s is not up to date: make test-applications writes it", tableFile)
		for _, r := range want {
			if !slices.Contains(have, r) {
				t.Errorf("no row %q", r)
			}
		}
		for _, r := range have {
			if !slices.Contains(want, r) {
				t.Errorf("no test of row %q", r)
			}
		}
	}
}
