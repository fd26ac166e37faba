//go:build linux && applications

package applications

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// application is a real server with its real client.
type application struct {
	name     string
	source   string   // where its programs come from: Debian packages or Go modules
	programs []string // that must be in PATH
	built    []string // that scripts/applications-build builds
	// version returns the versions of server and client, for the table.
	version func(*testing.T) string
	// publish starts the pods and says under which host they are served.
	publish       func(*site)
	conversations []conversation
}

// conversation is one thing that a client does with an application.
type conversation struct {
	does string // for the table: what the client does
	// talk returns what client and application saw, line by line.
	talk func(*way) string
	// want is what they must see. Empty: what they see without an ingress between them.
	want string
	// differs says by way (kerngate, nginx) why that way gives something else, as it then
	// must: a difference that is gone is to be taken out.
	differs map[string]string
}

// The ways between client and pod.
const (
	direct   = "direct"
	kerngate = "kerngate"
	nginx    = "nginx"
)

// run has all conversations of an application and notes the results for the table.
func run(t *testing.T, a *application) {
	t.Parallel()
	for _, program := range a.programs {
		if _, err := exec.LookPath(program); err != nil {
			skip(t, "needs "+program+": scripts/setup applications installs it")
		}
	}
	for _, name := range a.built {
		builtProgram(t, name) // before the conversations, which have time limits
	}
	s := newSite(t, a)
	for _, c := range a.conversations {
		t.Run(c.does, func(t *testing.T) {
			want := c.want
			if want == "" {
				want = s.talk(t, direct, c)
				t.Logf("without an ingress:\n%s", want)
			}
			for _, through := range []string{kerngate, nginx} {
				got := s.talk(t, through, c)
				why, differs := c.differs[through]
				switch {
				case differs && got == want:
					t.Errorf("through %s all is well, take its entry out of differs: %s", through, why)
				case differs:
					t.Logf("through %s, as expected (%s):\n%s", through, why, got)
				case got != want:
					t.Errorf("through %s:\n%s\nwant:\n%s", through, got, want)
				default:
					t.Logf("through %s: the same", through)
				}
			}
		})
	}
	if !t.Failed() {
		note(a, a.version(t))
	}
}

// talk has one conversation on one way.
func (s *site) talk(t *testing.T, through string, c conversation) string {
	w := s.way(t, through)
	defer func() {
		if t.Failed() {
			t.Logf("%s: %s", through, w.said())
		}
	}()
	return strings.TrimSpace(c.talk(w))
}

var number = regexp.MustCompile(`\d+(\.\d+)+[\w.+-]*`)

// versionOf runs a program that prints its version and returns the first number with a dot.
func versionOf(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	version := number.FindString(string(out))
	if version == "" {
		t.Fatalf("%s %s prints no version: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return version
}
