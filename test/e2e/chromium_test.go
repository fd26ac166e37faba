//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// chromium returns the command that has a browser load a page and print it. path names the
// browser's profile.
func (s *secureSite) chromium(path, url string, more ...string) lab.Command {
	s.t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		skip(s.t, "needs chromium: scripts/setup e2e installs it")
	}
	key := sha256.Sum256(s.ecdsa.TLS.Leaf.RawSubjectPublicKeyInfo)
	args := append([]string{
		"60", program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
		"--user-data-dir=" + s.lab.Dir + path, "--host-resolver-rules=MAP " + webHost + " " + s.lab.VIP4.String(),
		// Chromium trusts the certificate for its key, without a root of its own.
		"--ignore-certificate-errors-spki-list=" + base64.StdEncoding.EncodeToString(key[:]),
		"--timeout=30000",
	}, more...)
	return lab.Command{Path: "timeout", Args: append(args, "--dump-dom", url)}
}

// protocols returns by which protocols a path was asked for, in order.
func (s *secureSite) protocols(path string) (list []string) {
	for line := range strings.Lines(s.Agent.Log()) {
		for _, protocol := range []string{"HTTP/2", "HTTP/3"} {
			if strings.Contains(line, `"path":"`+path+`"`) && strings.Contains(line, `"proto":"`+protocol+`"`) {
				list = append(list, protocol)
			}
		}
	}
	return list
}

// A browser loads a page over HTTP/2 and, where it is told that the site has it, HTTP/3.
func TestChromium(t *testing.T) {
	s := newSecureSite(t, "--access-log=on", "--http3")
	for _, c := range []struct {
		protocol, path string
		args           []string
	}{
		{"HTTP/2", "/by-http2", nil},
		{"HTTP/3", "/by-http3", []string{"--origin-to-force-quic-on=" + webHost + ":443"}},
	} {
		begin := time.Now()
		page, err := s.lab.Client.Run(s.chromium(c.path, "https://"+webHost+c.path, c.args...))
		if err != nil || !strings.Contains(page, `"path":"`+c.path+`"`) {
			t.Errorf("%s: %v, the page is %.1000s", c.protocol, err, page)
			continue
		}
		report(t, "%s: a page in %s", c.protocol, time.Since(begin).Round(time.Millisecond))
		must(t, lab.Until(5*time.Second, "line in the access log", func() error {
			if slices.Contains(s.protocols(c.path), c.protocol) {
				return nil
			}
			return lab.ErrNotYet
		}))
	}
}

// A browser moves to HTTP/3 by Alt-Svc alone. Chromium does so only where it takes the root of
// the certificate for a public one: to any other it tries QUIC once, and gives up with an alert
// while it checks the certificate. It makes an exception for hosts that
// --origin-to-force-quic-on names with any port; only at that port it begins with QUIC.
func TestChromiumAltSvc(t *testing.T) {
	const requests = 40
	s := newSecureSite(t, "--access-log=on", "--http3")
	for _, c := range []struct {
		path  string
		args  []string
		moves bool
	}{
		{"/unknown-root", nil, false},
		{"/known-root", []string{"--origin-to-force-quic-on=" + webHost + ":1"}, true},
	} {
		// Each picture is asked for when the one before has come, and none is one.
		page := filepath.Join(s.lab.Dir, c.path+".html")
		must(t, os.WriteFile(page, fmt.Appendf(nil, `<script>
			let n = 0
			function next() {
				if (n++ == %d) return
				const i = new Image()
				i.onload = i.onerror = next
				i.src = "https://%s%s?" + n
			}
			next()
		</script>`, requests, webHost, c.path), 0o644))
		if out, err := s.lab.Client.Run(s.chromium(c.path, "file://"+page, c.args...)); err != nil {
			t.Errorf("%s: %v, the page is %.1000s", c.path, err, out)
			continue
		}
		var by []string
		must(t, lab.Until(5*time.Second, "lines in the access log", func() error {
			if by = s.protocols(c.path); len(by) < requests {
				return lab.ErrNotYet
			}
			return nil
		}))
		moved := slices.Index(by, "HTTP/3")
		if moved > 0 {
			report(t, "%s: HTTP/3 from request %d of %d on", c.path, moved+1, len(by))
		}
		if by[0] != "HTTP/2" || (moved > 0) != c.moves {
			t.Errorf("%s: by %v", c.path, by)
		}
		if c.moves {
			continue
		}
		counts := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_http3_handshakes_failed_total")
		if !strings.Contains(counts, `{reason="alert"}`) || strings.Contains(counts, `{reason="alert"} 0`) {
			t.Errorf("the handshake that Chromium has given up is not counted as an alert:\n%s", counts)
		}
	}
}
