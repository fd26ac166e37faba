package clientauth_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/proxy/rules/clientauth"
)

var now = time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)

func leaf(t *testing.T, a *certtest.Authority, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	chain, _ := a.Make(certtest.ECDSA, change)
	block, _ := pem.Decode(chain)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func plain(c *x509.Certificate) { c.Subject.CommonName = "me" }

// intermediate makes an authority that another one has signed.
func intermediate(t *testing.T, by *certtest.Authority, name string) *certtest.Authority {
	t.Helper()
	a := certtest.NewAuthority(name)
	template := *a.Certificate
	template.AuthorityKeyId = nil
	der, err := x509.CreateCertificate(rand.Reader, &template, by.Certificate, a.Key.Public(), by.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certtest.Authority{Certificate: c, Key: a.Key}
}

func TestJudge(t *testing.T) {
	root, stranger := certtest.NewAuthority("root"), certtest.NewAuthority("stranger")
	middle := intermediate(t, root, "middle")
	good := leaf(t, root, plain)
	deep := leaf(t, middle, plain)
	list := func(a *certtest.Authority, this, next time.Time, serials ...*big.Int) []byte {
		l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: this, NextUpdate: next}
		for _, s := range serials {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: this})
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, a.Certificate, a.Key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	day := 24 * time.Hour
	current := list(root, now.Add(-day), now.Add(day))
	for name, c := range map[string]struct {
		rules clientauth.Rules
		chain []*x509.Certificate
		want  string
	}{
		"none":              {clientauth.Rules{}, nil, "NONE"},
		"good":              {clientauth.Rules{}, []*x509.Certificate{good}, "SUCCESS"},
		"stranger":          {clientauth.Rules{}, []*x509.Certificate{leaf(t, stranger, plain)}, "FAILED:unable to get local issuer certificate"},
		"self-signed":       {clientauth.Rules{}, []*x509.Certificate{stranger.Certificate}, "FAILED:self-signed certificate"},
		"expired":           {clientauth.Rules{}, []*x509.Certificate{leaf(t, root, func(c *x509.Certificate) { c.NotAfter = now.Add(-day) })}, "FAILED:certificate has expired"},
		"not yet":           {clientauth.Rules{}, []*x509.Certificate{leaf(t, root, func(c *x509.Certificate) { c.NotBefore = now.Add(day) })}, "FAILED:certificate is not yet valid"},
		"a server's":        {clientauth.Rules{}, []*x509.Certificate{leaf(t, root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, "FAILED:unsuitable certificate purpose"},
		"large":             {clientauth.Rules{}, []*x509.Certificate{leaf(t, root, func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", 9000) })}, "FAILED:certificate too large"},
		"deep":              {clientauth.Rules{Depth: 2}, []*x509.Certificate{deep, middle.Certificate}, "SUCCESS"},
		"too deep":          {clientauth.Rules{Depth: 1}, []*x509.Certificate{deep, middle.Certificate}, "FAILED:certificate chain too long"},
		"without the way":   {clientauth.Rules{Depth: 2}, []*x509.Certificate{deep}, "FAILED:unable to get local issuer certificate"},
		"not revoked":       {clientauth.Rules{Revoked: current}, []*x509.Certificate{good}, "SUCCESS"},
		"revoked":           {clientauth.Rules{Revoked: list(root, now.Add(-day), now.Add(day), good.SerialNumber)}, []*x509.Certificate{good}, "FAILED:certificate revoked"},
		"revoked long ago":  {clientauth.Rules{Revoked: list(root, now.Add(-2*day), now.Add(-day), good.SerialNumber)}, []*x509.Certificate{good}, "FAILED:certificate revoked"},
		"old list":          {clientauth.Rules{Revoked: list(root, now.Add(-2*day), now.Add(-day))}, []*x509.Certificate{good}, "FAILED:CRL has expired"},
		"list of tomorrow":  {clientauth.Rules{Revoked: list(root, now.Add(day), now.Add(2*day))}, []*x509.Certificate{good}, "FAILED:CRL is not yet valid"},
		"list of others":    {clientauth.Rules{Revoked: list(stranger, now.Add(-day), now.Add(day))}, []*x509.Certificate{good}, "FAILED:unable to get certificate CRL"},
		"no list of middle": {clientauth.Rules{Depth: 2, Revoked: current}, []*x509.Certificate{deep, middle.Certificate}, "FAILED:unable to get certificate CRL"},
		"old and new list":  {clientauth.Rules{Revoked: append(list(root, now.Add(-2*day), now.Add(-day)), current...)}, []*x509.Certificate{good}, "SUCCESS"},
	} {
		c.rules.Certificates = root.PEM()
		p, err := clientauth.New(c.rules)
		if err != nil {
			t.Fatal(name, err)
		}
		v := p.Judge(c.chain, now)
		if v.Text != c.want {
			t.Errorf("%s: %s, want %s", name, v.Text, c.want)
		}
		if v.Fields[0].Name != "ssl-client-verify" || string(v.Fields[0].Value) != v.Text {
			t.Errorf("%s: fields %q", name, v.Fields)
		}
	}
}

// TestSubject: an expression keeps out those whose certificate is valid but of another
// name, and whoever shows none, in every mode.
func TestSubject(t *testing.T) {
	root, stranger := certtest.NewAuthority("root"), certtest.NewAuthority("stranger")
	me, you := leaf(t, root, plain), leaf(t, root, func(c *x509.Certificate) { c.Subject.CommonName = "you" })
	forged := leaf(t, stranger, plain)
	for _, c := range []struct {
		mode  clientauth.Mode
		chain []*x509.Certificate
		want  bool
	}{
		{clientauth.Required, []*x509.Certificate{me}, true},
		{clientauth.Required, []*x509.Certificate{you}, false},
		{clientauth.Required, []*x509.Certificate{forged}, false},
		{clientauth.Required, nil, false},
		{clientauth.Optional, []*x509.Certificate{me}, true},
		{clientauth.Optional, nil, false},
		{clientauth.OptionalNoCA, []*x509.Certificate{forged}, true}, // as the mode says: by name alone
		{clientauth.OptionalNoCA, []*x509.Certificate{you}, false},
	} {
		p, err := clientauth.New(clientauth.Rules{Mode: c.mode, Certificates: root.PEM(), Subject: "^CN=me$"})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Admits(p.Judge(c.chain, now)); got != c.want {
			t.Errorf("mode %d, %d certificates: admitted %t", c.mode, len(c.chain), got)
		}
	}
	if _, err := clientauth.New(clientauth.Rules{Subject: "("}); err == nil {
		t.Error("an expression that is none is taken")
	}
	with, without := clientauth.Rules{Subject: "CN=me"}, clientauth.Rules{}
	if with.Fingerprint() == without.Fingerprint() {
		t.Error("sessions of another policy could be resumed")
	}
}

// TestBadAuthority: what cannot be read is refused, and nobody is valid without an authority.
func TestBadAuthority(t *testing.T) {
	for name, r := range map[string]clientauth.Rules{
		"no PEM":        {Certificates: []byte("hello")},
		"broken":        {Certificates: []byte("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")},
		"no list":       {Revoked: []byte("hello")},
		"a broken list": {Revoked: []byte("-----BEGIN X509 CRL-----\naGVsbG8=\n-----END X509 CRL-----\n")},
	} {
		if _, err := clientauth.New(r); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	p, err := clientauth.New(clientauth.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	if v := p.Judge([]*x509.Certificate{leaf(t, certtest.NewAuthority("any"), plain)}, now); p.Admits(v) {
		t.Errorf("let in by nobody: %s", v.Text)
	}
}

// TestDistinguishedName: names are written as nginx does, whatever is in them.
func TestDistinguishedName(t *testing.T) {
	encode := func(n pkix.RDNSequence) []byte {
		der, err := asn1.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	at := func(value any, oid ...int) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}}
	}
	for want, name := range map[string]pkix.RDNSequence{
		"":                          {},
		"CN=me,O=Test,C=DE":         {at("DE", 2, 5, 4, 6), at("Test", 2, 5, 4, 10), at("me", 2, 5, 4, 3)},
		`CN=a\,b\+c\"d\\e\<f\>g\;h`: {at(`a,b+c"d\e<f>g;h`, 2, 5, 4, 3)},
		`CN=\#a\ `:                  {at("#a ", 2, 5, 4, 3)},
		`CN=\0D\0AX: y\00`:          {at("\r\nX: y\x00", 2, 5, 4, 3)},
		`CN=M\C3\BCller`:            {at("Müller", 2, 5, 4, 3)},
		"emailAddress=a@b.test":     {at("a@b.test", 1, 2, 840, 113549, 1, 9, 1)},
		"1.2.3=#130161":             {at("a", 1, 2, 3)},
		"CN=a+UID=b":                {{{Type: []int{2, 5, 4, 3}, Value: "a"}, {Type: []int{0, 9, 2342, 19200300, 100, 1, 1}, Value: "b"}}},
	} {
		if got := string(clientauth.DistinguishedName(encode(name))); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := clientauth.DistinguishedName([]byte{0x30, 5, 1}); len(got) != 0 {
		t.Errorf("a broken name is %q", got)
	}
}

// FuzzDistinguishedName: a name can always be the value of a field.
func FuzzDistinguishedName(f *testing.F) {
	f.Add(certtest.NewAuthority("seed").Certificate.RawSubject)
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, c := range clientauth.DistinguishedName(der) {
			if c < ' ' || c > '~' {
				t.Fatalf("byte %#x", c)
			}
		}
	})
}
