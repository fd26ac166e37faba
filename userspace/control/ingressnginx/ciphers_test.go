package ingressnginx

import (
	"crypto/tls"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestSuites: the table has what crypto/tls has, and nothing else.
func TestSuites(t *testing.T) {
	var want, got []string
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			want = append(want, s.Name)
		}
	}
	for _, s := range suites {
		got = append(got, s.iana)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("crypto/tls has %q, the table %q", want, got)
	}
}

// TestCipherListAsOpenSSL: of the suites that crypto/tls has, OpenSSL chooses the same.
func TestCipherListAsOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("needs openssl(1)")
	}
	for _, list := range []string{
		"ALL", "DEFAULT", "HIGH:!aNULL:!MD5", "HIGH:!aNULL:!MD5:!SHA1", "ALL:!aNULL:!ADH:!eNULL:!LOW:!EXP:RC4+RSA:+HIGH:+MEDIUM",
		"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384",
		"EECDH+AESGCM:EDH+AESGCM", "ECDHE+AES128:-SHA", "kECDHE:!ECDSA", "AES256+aRSA", "aECDSA", "ALL:-SHA:ECDHE-RSA-AES128-SHA", "ALL:!SHA:ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-GCM-SHA384",
		"AESGCM,CHACHA20", "TLSv1.2 !CHACHA20", "TLSv1:@STRENGTH", "HIGH:!AES", "AES:!AESGCM", "AES128:AES256:!RSA:!kRSA:!DH:!PSK", "ECDHE+CHACHA20+aRSA",
		"HIGH:!TLSv1.2", "SHA1+ECDSA", "ECDHE-RSA-AES128-GCM-SHA256:NO-SUCH-SUITE", "SHA256:SHA384:ECDHE-ECDSA-AES256-SHA", "HIGH:+AESGCM:-ECDHE",
		"ALL:!ECDHE-RSA-AES128-SHA+HIGH", "EECDH", "kEECDH+AES", "HIGH:!kEDH:!3DES",
	} {
		raw, err := exec.Command(openssl, "ciphers", "-tls1_2", list).Output()
		if err != nil {
			raw = nil // it has none of them
		}
		theirs := strings.Split(strings.TrimSpace(string(raw)), ":")
		var want []string
		for _, s := range suites {
			if slices.Contains(theirs, s.name) {
				want = append(want, s.iana)
			}
		}
		slices.Sort(want)
		got, _, ok := cipherList(list)
		if !ok || !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", list, got, want)
		}
	}
}

func TestCiphers(t *testing.T) {
	for _, c := range []struct {
		value, suites, finding string
	}{
		{"ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "difference: DHE-RSA-AES128-GCM-SHA256: crypto/tls lacks it or considers it insecure; the others are used"},
		{"ECDHE-RSA-AES128-GCM-SHA256:!aNULL:!AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "difference: " + whySuites},
		{"AES256-SHA", "", `invalid: crypto/tls has no secure suite of "AES256-SHA"; the proxy's own are used`},
		{"HIGH'; evil", "", `invalid: invalid value "HIGH'; evil": use names of suites as OpenSSL writes them, separated by colons; the proxy's own suites are used`},
		{"!", "", `invalid: invalid value "!": use names of suites as OpenSSL writes them, separated by colons; the proxy's own suites are used`},
		{strings.Repeat("A-B:", 1025), "", `invalid: invalid value "` + strings.Repeat("A-B:", 25) + `...": use a list of up to 4096 bytes; the proxy's own suites are used`},
		{":", "", `invalid: crypto/tls has no secure suite of ":"; the proxy's own are used`},
	} {
		r := read("ssl-ciphers: " + c.value)
		if got := strings.Join(r.Suites, " "); got != c.suites {
			t.Errorf("%s: %s", c.value, got)
		}
		if f := r.Findings; len(f) != 1 || f[0].Verdict.String()+": "+f[0].Message != c.finding {
			t.Errorf("%s: %+v", c.value, f)
		}
	}
}

func TestUpstreamVersions(t *testing.T) {
	for value, want := range map[string]string{
		"TLSv1.2": "1.2 1.2", "TLSv1.3": "1.3 1.3", "TLSv1.2 TLSv1.3": "1.2 1.3", "TLSv1 TLSv1.1 TLSv1.2": "1.2 1.2", "TLSv1.1": " ", "TLSv1.4 TLSv1.3": "1.3 1.3", "off": " ",
	} {
		r := read("proxy-ssl-protocols: " + value)
		if got := r.UpstreamMin + " " + r.UpstreamMax; got != want {
			t.Errorf("%s: %q", value, got)
		}
	}
}

func FuzzCipherList(f *testing.F) {
	f.Add("HIGH:!aNULL:@STRENGTH")
	f.Add("ECDHE+AESGCM:-SHA,+RC4 x")
	f.Fuzz(func(t *testing.T, text string) {
		chosen, lacking, ok := cipherList(text)
		if !ok && len(chosen)+len(lacking) > 0 {
			t.Error("what is no list has suites")
		}
		for _, name := range chosen {
			if !slices.ContainsFunc(suites, func(s suite) bool { return s.iana == name }) {
				t.Errorf("%q", name)
			}
		}
	})
}
