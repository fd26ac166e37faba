//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// A browser loads a page over HTTP/2 and, where it is told that the site has it, HTTP/3.
func TestChromium(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		skip(t, "needs chromium: scripts/setup e2e installs it")
	}
	s := newSecureSite(t, "--access-log=on", "--http3")
	key := sha256.Sum256(s.ecdsa.TLS.Leaf.RawSubjectPublicKeyInfo)
	for _, c := range []struct {
		protocol, path string
		args           []string
	}{
		{"HTTP/2", "/by-http2", nil},
		{"HTTP/3", "/by-http3", []string{"--origin-to-force-quic-on=" + webHost + ":443"}},
	} {
		args := append([]string{
			"60", chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
			"--user-data-dir=" + s.lab.Dir + c.path, "--host-resolver-rules=MAP " + webHost + " " + s.lab.VIP4.String(),
			// Chromium trusts the certificate for its key, without a root of its own.
			"--ignore-certificate-errors-spki-list=" + base64.StdEncoding.EncodeToString(key[:]),
			"--timeout=30000",
		}, c.args...)
		begin := time.Now()
		page, err := s.lab.Client.Run(lab.Command{Path: "timeout", Args: append(args, "--dump-dom", "https://"+webHost+c.path)})
		if err != nil || !strings.Contains(page, `"path":"`+c.path+`"`) {
			t.Errorf("%s: %v, the page is %.1000s", c.protocol, err, page)
			continue
		}
		report(t, "%s: a page in %s", c.protocol, time.Since(begin).Round(time.Millisecond))
		must(t, lab.Until(5*time.Second, "line in the access log", func() error {
			for line := range strings.Lines(s.Agent.Log()) {
				if strings.Contains(line, `"path":"`+c.path+`"`) && strings.Contains(line, `"proto":"`+c.protocol+`"`) {
					return nil
				}
			}
			return lab.ErrNotYet
		}))
	}
}
