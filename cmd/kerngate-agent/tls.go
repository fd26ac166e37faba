package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/agent"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// maxMaxStreams bounds --max-streams: each may hold buffers of its own.
const maxMaxStreams = 10_000

// checkTLS checks what is asked of connections and of protocols above HTTP/1.1.
func (o *options) checkTLS() error {
	f, s := o.flags, o.settings
	if err := o.checkDefaultCertificate(); err != nil {
		return err
	}
	if f.httpsPort != 0 {
		s.RedirectPort = uint32(f.httpsPort)
		s.PublicHttpsPort = uint32(f.publicHTTPS)
	} else if f.http3 {
		return errors.New("--http3 needs an --https-port")
	}
	switch f.tlsMinVersion {
	case "1.2", "1.3":
		s.TlsMinVersion = f.tlsMinVersion
	default:
		return fmt.Errorf("--tls-min-version %q: want 1.2 or 1.3", f.tlsMinVersion)
	}
	for _, name := range f.tlsSuites {
		if err := checkSuite(name); err != nil {
			return err
		}
		s.TlsSuites = append(s.TlsSuites, name)
	}
	if !rule.Printable(f.hsts) {
		return fmt.Errorf("--hsts %q: want printable ASCII, as it is sent in a header", f.hsts)
	}
	if f.hsts != "" && !strings.Contains(strings.ToLower(f.hsts), "max-age=") {
		return fmt.Errorf("--hsts %q: has no max-age=SECONDS, without which browsers ignore it", f.hsts)
	}
	s.Hsts, s.Http3, s.DisableHttp2 = f.hsts, f.http3, f.disableHTTP2
	if f.maxStreams == 0 || f.maxStreams > maxMaxStreams {
		return fmt.Errorf("--max-streams %d: want 1 to %d", f.maxStreams, maxMaxStreams)
	}
	s.MaxStreams = f.maxStreams
	var err error
	if s.TrustedProxies, err = prefixTexts("--trusted-proxy", f.trustedProxies); err != nil {
		return err
	}
	if s.ForwardedForHeader, err = rule.ForwardedFor(f.forwardedFor); err != nil {
		return fmt.Errorf("--forwarded-for-header: %w", err)
	}
	if s.ForwardedForHeader != "" && len(s.TrustedProxies) == 0 {
		return errors.New("--forwarded-for-header needs a --trusted-proxy: nobody else is believed")
	}
	if s.AllowedDestinations, err = prefixTexts("--allow-destinations", f.allowDestinations); err != nil {
		return err
	}
	for _, a := range o.node.Addresses {
		s.OwnAddresses = append(s.OwnAddresses, a.String())
	}
	s.ProxyHeaderFrom, err = prefixTexts("--proxy-protocol-from", f.proxyProtocolFrom)
	return err
}

// checkSuite accepts what crypto/tls holds sound for TLS 1.2.
func checkSuite(name string) error {
	for _, suite := range tls.CipherSuites() {
		if suite.Name != name {
			continue
		}
		if suite.SupportedVersions[0] > tls.VersionTLS12 {
			return fmt.Errorf("--tls-suite %s: suites of TLS 1.3 cannot be chosen, all are offered", name)
		}
		return nil
	}
	for _, suite := range tls.InsecureCipherSuites() {
		if suite.Name == name {
			return fmt.Errorf("--tls-suite %s: is broken and not offered", name)
		}
	}
	var names []string
	for _, suite := range tls.CipherSuites() {
		if suite.SupportedVersions[0] <= tls.VersionTLS12 {
			names = append(names, suite.Name)
		}
	}
	return fmt.Errorf("--tls-suite %q is unknown: want one of %s", name, strings.Join(names, ", "))
}

// checkDefaultCertificate reads --default-certificate: two files if there is a comma.
func (o *options) checkDefaultCertificate() error {
	text := o.flags.defaultCertificate
	if text == "" {
		return nil
	}
	if chain, key, files := strings.Cut(text, ","); files {
		f, err := agent.OpenCertificateFiles(chain, key)
		if err != nil {
			return fmt.Errorf("--default-certificate: %w", err)
		}
		o.defaultFiles = f
		return nil
	}
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("--default-certificate %q: want NAMESPACE/SECRET, or CHAIN,KEY for two files", text)
	}
	o.kube.DefaultCertificate = text
	return nil
}

func prefixTexts(flag string, texts []string) (out []string, err error) {
	var prefixes []netip.Prefix
	if prefixes, err = parsePrefixes(flag, texts); err != nil {
		return nil, err
	}
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out, nil
}
