package ingressnginx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// suite is a cipher suite of TLS 1.2 that crypto/tls has and holds secure.
type suite struct {
	name  string   // OpenSSL's
	iana  string   // crypto/tls's
	words []string // of OpenSSL's language that select it beside its names
}

var (
	gcm      = []string{"TLSv1.2", "AESGCM", "AES"}
	cbc      = []string{"TLSv1", "TLSv1.0", "SHA", "SHA1", "AES"}
	chacha   = []string{"TLSv1.2", "CHACHA20"}
	byECDSA  = []string{"ECDSA", "aECDSA"}
	byRSA    = []string{"aRSA"}
	everyone = []string{"ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH"}
)

var suites = []suite{
	{"ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", slices.Concat(everyone, byECDSA, gcm, []string{"AES128"})},
	{"ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", slices.Concat(everyone, byRSA, gcm, []string{"AES128"})},
	{"ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", slices.Concat(everyone, byECDSA, gcm, []string{"AES256"})},
	{"ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", slices.Concat(everyone, byRSA, gcm, []string{"AES256"})},
	{"ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", slices.Concat(everyone, byECDSA, chacha)},
	{"ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", slices.Concat(everyone, byRSA, chacha)},
	{"ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", slices.Concat(everyone, byECDSA, cbc, []string{"AES128"})},
	{"ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", slices.Concat(everyone, byRSA, cbc, []string{"AES128"})},
	{"ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", slices.Concat(everyone, byECDSA, cbc, []string{"AES256"})},
	{"ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", slices.Concat(everyone, byRSA, cbc, []string{"AES256"})},
}

// selects reports whether all of an item's words, which "+" joins, select the suite.
func (s *suite) selects(item string) bool {
	for word := range strings.SplitSeq(item, "+") {
		if word != s.name && word != s.iana && !slices.Contains(s.words, word) {
			return false
		}
	}
	return true
}

// cipherList evaluates a list as OpenSSL does (openssl-ciphers(1)), as far as it says which
// suites are used: the order is crypto/tls's own. It returns their IANA names, sorted, and
// the suites that are asked for by name and are not to be had. ok is false if that is no
// list.
func cipherList(text string) (chosen, lacking []string, ok bool) {
	in, never := map[string]bool{}, map[string]bool{}
	for item := range strings.FieldsFuncSeq(text, func(c rune) bool { return strings.ContainsRune(":, ;", c) }) {
		op := byte(0)
		if strings.IndexByte("!-+@", item[0]) >= 0 {
			op, item = item[0], item[1:]
		}
		if item == "" || strings.ContainsFunc(item, func(c rune) bool { return !isCipherChar(c) }) {
			return nil, nil, false
		}
		if op == '+' || op == '@' {
			continue // order, and SECLEVEL, above whose usual values all of these are
		}
		found := false
		for i := range suites {
			s := &suites[i]
			if !s.selects(item) {
				continue
			}
			found = true
			switch op {
			case '!':
				never[s.iana], in[s.iana] = true, false
			case '-':
				in[s.iana] = false
			default:
				in[s.iana] = !never[s.iana]
			}
		}
		// Suites of TLS 1.3 are named TLS_; all of them are always offered.
		if !found && op == 0 && strings.Contains(item, "-") && !slices.Contains(lacking, item) {
			lacking = append(lacking, item)
		}
	}
	for i := range suites {
		if in[suites[i].iana] {
			chosen = append(chosen, suites[i].iana)
		}
	}
	slices.Sort(chosen)
	return chosen, lacking, true
}

func isCipherChar(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.+=", c)
}

// ciphers reads a list of suites for TLS 1.2. With none that can be had, what the proxy has
// by itself stays.
func (r *reader) ciphers(key string) []string {
	_, v, set := r.text(key)
	if !set {
		return nil
	}
	if len(v) > maxCiphers { // before it is read: annotations can be long
		r.invalid(key, v, fmt.Sprintf("a list of up to %d bytes", maxCiphers), "the proxy's own suites are used")
		return nil
	}
	chosen, lacking, ok := cipherList(v)
	switch {
	case !ok:
		r.invalid(key, v, "names of suites as OpenSSL writes them, separated by colons", "the proxy's own suites are used")
		return nil
	case len(chosen) == 0:
		r.find(key, Invalid, "crypto/tls has no secure suite of %q; the proxy's own are used", rule.Shorten(v))
		return nil
	case len(lacking) > 0:
		r.find(key, Difference, "%s: crypto/tls lacks it or considers it insecure; the others are used", rule.Shorten(strings.Join(lacking, ", ")))
	}
	return chosen
}

// maxCiphers bounds the text of a list.
const maxCiphers = 4096

// tls reads which versions and suites of TLS are spoken, to clients and to pods.
func (r *reader) tls() {
	r.out.Suites = r.ciphers("ssl-ciphers")
	r.boolean("ssl-prefer-server-ciphers", true)
	r.out.UpstreamSuites = r.ciphers("proxy-ssl-ciphers")
	const key = "proxy-ssl-protocols"
	_, v, set := r.text(key)
	if !set {
		return
	}
	old := ""
	has := map[string]bool{}
	for _, word := range strings.Fields(v) {
		switch word {
		case "TLSv1.2", "TLSv1.3":
			has[strings.TrimPrefix(word, "TLSv")] = true
		case "SSLv2", "SSLv3", "TLSv1", "TLSv1.1":
			old = word
		default:
			r.invalid(key, word, "TLSv1.2 and TLSv1.3", "this word is ignored")
		}
	}
	switch {
	case !has["1.2"] && !has["1.3"]:
		r.find(key, Invalid, "%q names neither TLSv1.2 nor TLSv1.3, and older versions are not supported; both are used", rule.Shorten(v))
		return
	case old != "":
		r.find(key, Difference, "%s is no longer offered to pods; the other versions are", old)
	}
	r.out.UpstreamMin, r.out.UpstreamMax = "1.2", "1.3"
	if !has["1.2"] {
		r.out.UpstreamMin = "1.3"
	}
	if !has["1.3"] {
		r.out.UpstreamMax = "1.2"
	}
}
