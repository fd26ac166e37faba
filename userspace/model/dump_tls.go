package model

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// String returns the certificates that are offered and what clients are asked for.
func (t TLS) String() string {
	if t.Passthrough != (ServiceKey{}) {
		return "passthrough to " + t.Passthrough.String()
	}
	text := "default certificate"
	if len(t.Certificates) > 0 {
		text = strings.Join(t.Certificates, ", ")
	}
	if t.Client != nil {
		text += "; client certificate " + t.Client.String()
	}
	if len(t.Suites) > 0 {
		text += "; suites " + strings.Join(t.Suites, " ")
	}
	return text
}

// String returns mode, authority and options.
func (c ClientAuth) String() string {
	text := fmt.Sprintf("%s by %s depth %d", c.Mode, c.Authority, c.Depth)
	if c.ErrorPage != "" {
		text += " else " + c.ErrorPage
	}
	if c.Subject != "" {
		text += fmt.Sprintf(" subject %q", c.Subject)
	}
	if c.PassChain {
		text += ", passed on"
	}
	return text
}

// String returns the mode's name in annotations and the CLI.
func (m ClientMode) String() string {
	switch m {
	case ClientRequired:
		return "required"
	case ClientOptional:
		return "optional"
	}
	return "optional_no_ca"
}

// String returns the protocol's name, such as "http", "grpcs" or "h2c, proxy-v2".
func (u Upstream) String() string {
	text := "http"
	switch {
	case u.GRPC:
		text = "grpc"
	case u.Protocol == HTTP2 && u.TLS == nil:
		text = "h2c"
	case u.Protocol == HTTP2:
		text = "h2"
	}
	if u.TLS != nil {
		if text != "h2" {
			text += "s"
		}
		text += u.TLS.options()
	}
	if u.ProxyHeader != 0 {
		text += fmt.Sprintf(", proxy-v%d", u.ProxyHeader)
	}
	return text
}

func (t UpstreamTLS) options() string {
	var text string
	if t.Verify {
		text += ", verified by " + orWord(t.Authority, "nobody")
	}
	if t.ServerName != "" {
		text += ", name " + t.ServerName
	}
	if t.Certificate != "" {
		text += ", with certificate " + t.Certificate
	}
	if t.MinVersion != "" || t.MaxVersion != "" {
		text += fmt.Sprintf(", TLS %s to %s", orWord(t.MinVersion, "1.2"), orWord(t.MaxVersion, "1.3"))
	}
	if len(t.Suites) > 0 {
		text += ", suites " + strings.Join(t.Suites, " ")
	}
	return text
}

func orWord(text, word string) string {
	if text == "" {
		return word
	}
	return text
}

// String describes the leaf; the key is never part of it.
func (c Certificate) String() string {
	leaf, err := c.Leaf()
	if err != nil {
		return "unreadable"
	}
	text := fmt.Sprintf("%s for %s until %s sha256 %s", KeyType(leaf), orWord(strings.Join(NamesOf(leaf), " "), "no name"),
		leaf.NotAfter.UTC().Format(time.RFC3339), Fingerprint(leaf))
	if len(c.OCSP) > 0 {
		text += " with ocsp"
	}
	return text
}

// String lists the subjects.
func (a Authority) String() string {
	var subjects []string
	for rest := a.Certificates; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			subjects = append(subjects, fmt.Sprintf("%q until %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	text := strings.Join(subjects, ", ")
	if len(a.Revoked) > 0 {
		text += " with revocation list"
	}
	return text
}
