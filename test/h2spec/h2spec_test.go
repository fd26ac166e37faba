// Package h2spec runs the conformance tester of that name against a proxy, in clear text
// and over TLS. It is built from the module in tool, which pins it.
package h2spec

import (
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// The cases that are not held against the proxy, each with the reason. Keys are "section:
// description" as in the report.
var (
	skippedInClearText = map[string]string{
		"http2/3.5: Sends invalid connection preface": "the port speaks HTTP/1.1 too: whatever is not the preface is answered in that, " +
			"by 400, which the tester cannot read",
	}
	skippedOverTLS = map[string]string{}
)

// build makes the tester.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "h2spec")
	c := exec.Command("go", "build", "-o", bin, "github.com/summerwind/h2spec/cmd/h2spec")
	c.Dir = "tool"
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build h2spec: %v\n%s", err, out)
	}
	return bin
}

// report is JUnit's form, as far as it is read here.
type report struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Description string  `xml:"classname,attr"`
			Failure     *string `xml:"failure"`
			Error       *string `xml:"error"`
			Skipped     *string `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// run runs all cases against a proxy and holds every one against it that is not in skipped.
func run(t *testing.T, bin, address string, skipped map[string]string, args ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.xml")
	c := exec.Command(bin, append([]string{"--strict", "--host", host, "--port", port, "--timeout", "2", "--junit-report", file}, args...)...)
	out, _ := c.CombinedOutput() // fails if any case does: the report says which
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("h2spec wrote no report: %v\n%s", err, out)
	}
	var r report
	if err := xml.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	passed, unmet := 0, map[string]bool{}
	for key := range skipped {
		unmet[key] = true
	}
	for _, suite := range r.Suites {
		for _, c := range suite.Cases {
			key := suite.Package + ": " + c.Description
			delete(unmet, key)
			switch why, skip := skipped[key]; {
			case c.Failure != nil && !skip:
				t.Errorf("%s\n%s", key, *c.Failure)
			case c.Error != nil && !skip:
				t.Errorf("%s\n%s", key, *c.Error)
			case c.Skipped != nil && !skip:
				t.Errorf("%s: h2spec skipped it, and the table has no reason for that", key)
			case skip && c.Failure == nil && c.Error == nil:
				t.Errorf("%s passes: take it out of the table", key)
			case skip:
				t.Logf("not counted: %s: %s", key, why)
			default:
				passed++
			}
		}
	}
	for key := range unmet {
		t.Errorf("the table of skips has %q, which h2spec does not", key)
	}
	if passed < 140 {
		t.Errorf("only %d cases passed\n%s", passed, out)
	}
	t.Logf("%d cases passed", passed)
}

// start starts a proxy with one pod that answers everything.
func start(t *testing.T) (*proxytest.Proxy, []proxytest.Service) {
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, strings.Repeat("Hello, World!\n", 8))
	}))
	t.Cleanup(pod.Close)
	services := []proxytest.Service{
		{Name: "default/web:80", Path: "/", Backends: []string{strings.TrimPrefix(pod.URL, "http://")}},
	}
	return proxytest.Start(t, services, nil), services
}

func TestClearText(t *testing.T) {
	p, _ := start(t)
	run(t, build(t), p.Address, skippedInClearText)
}

func TestTLS(t *testing.T) {
	p, services := start(t)
	_, port, err := net.SplitHostPort(p.Address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	p.Configure(t, services, &feedpb.Settings{HttpsPorts: []uint32{uint32(n)}})
	run(t, build(t), p.Address, skippedOverTLS, "--tls", "--insecure")
}
