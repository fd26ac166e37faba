package upstream_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestVersions: which versions and suites of TLS pods are spoken to with; without a common
// one there is no connection.
func TestVersions(t *testing.T) {
	const (
		aes128 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
		aes256 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
	)
	for _, c := range []struct {
		name   string
		pod    func(*tls.Config)
		tls    *feedpb.UpstreamTLS
		want   string
		detail string
	}{
		{"the newest", nil, &feedpb.UpstreamTLS{}, "TLS 1.3", ""},
		{"1.2 at most", nil, &feedpb.UpstreamTLS{MinVersion: "1.2", MaxVersion: "1.2"}, "TLS 1.2", ""},
		{"1.3 at least", nil, &feedpb.UpstreamTLS{MinVersion: "1.3", MaxVersion: "1.3"}, "TLS 1.3", ""},
		{"1.3 at least, of an older pod", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, &feedpb.UpstreamTLS{MinVersion: "1.3"}, "", "alert_by_the_pod"},
		{"1.2 at most, of a newer pod", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, &feedpb.UpstreamTLS{MaxVersion: "1.2"}, "", "alert_by_the_pod"},
		{"one suite", nil, &feedpb.UpstreamTLS{MaxVersion: "1.2", Suites: []string{aes256}}, "TLS 1.2 " + aes256, ""},
		{"another suite", nil, &feedpb.UpstreamTLS{MaxVersion: "1.2", Suites: []string{aes128}}, "TLS 1.2 " + aes128, ""},
		{"a suite that the pod has not", func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} },
			&feedpb.UpstreamTLS{MaxVersion: "1.2", Suites: []string{aes256}}, "", "alert_by_the_pod"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %s", tls.VersionName(r.TLS.Version), tls.CipherSuiteName(r.TLS.CipherSuite))
			}))
			pod.TLS, pod.Config.ErrorLog = &tls.Config{}, quiet()
			if c.pod != nil {
				c.pod(pod.TLS)
			}
			pod.StartTLS()
			t.Cleanup(pod.Close)
			p := proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{pod.Listener.Addr().String()}, Upstream: &feedpb.Upstream{Tls: c.tls}}}, nil)
			r, err := client(t).Get("http://" + p.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			b, _ := io.ReadAll(r.Body)
			if c.want != "" && (r.StatusCode != 200 || !strings.HasPrefix(string(b), c.want)) {
				t.Errorf("%d %q, want %q", r.StatusCode, b, c.want)
			}
			if c.want == "" && (r.StatusCode != 502 || !strings.HasPrefix(string(b), exchange.UpstreamTLS.String()) || !strings.Contains(string(b), c.detail)) {
				t.Errorf("%d %q, want %s (%s)", r.StatusCode, b, exchange.UpstreamTLS, c.detail)
			}
		})
	}
}
