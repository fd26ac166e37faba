// Package rule says which texts and numbers a rule of a policy may hold. In: a value, as it
// stands in an annotation or comes over the feed. Out: what is wrong with it, or the value
// read: a compiled expression, a template, a prefix.
//
// The translation asks here what to make of an annotation, and the proxy whether it can carry
// a rule out. There is no second check on either side: where the two differed, the proxy
// refused what the translation had let through, and the Ingress was closed at run time.
//
// Whoever calls says in which words a value is wrong to its author, and what holds in its
// place; the errors here say why.
package rule

import (
	"fmt"
	"strings"
)

// MaxField is the length in bytes of the longest name of a header, cookie or method.
const MaxField = 256

// Token reports whether a text is one (RFC 9110 section 5.6.2) that is not too long to be a
// name.
func Token(s string) bool {
	return s != "" && len(s) <= MaxField && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", c)
	})
}

// proxyOwn are the headers that no rule may name: they frame messages, belong to one
// connection, or have a rule of their own (Host).
var proxyOwn = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true, "transfer-encoding": true,
	"upgrade": true, "http2-settings": true, "content-length": true, "host": true, "expect": true,
}

// ProxyOwn reports whether a header is one that no rule may name. One with "_" in place of "-"
// is the same to CGI and its like.
func ProxyOwn(name string) bool { return proxyOwn[strings.ToLower(strings.ReplaceAll(name, "_", "-"))] }

// FieldName says what is wrong with the name of a header in a rule.
func FieldName(name string) error {
	switch {
	case !Token(name):
		return fmt.Errorf("%q is no name of a field", Shorten(name))
	case ProxyOwn(name):
		return fmt.Errorf("header %s is managed by the proxy and cannot be used here", name)
	}
	return nil
}

// notAddresses are headers that say something else than where a request comes from.
var notAddresses = map[string]bool{
	"x-forwarded-proto": true, "x-forwarded-host": true, "x-forwarded-port": true, "x-forwarded-scheme": true, "x-scheme": true, "via": true,
	"x-request-id": true, "traceparent": true, "date": true, "server": true, "authorization": true, "proxy-authorization": true, "cookie": true,
	"user-agent": true, "referer": true, "origin": true, "accept": true, "accept-encoding": true, "cache-control": true, "range": true,
	"content-type": true, "content-encoding": true, "content-range": true, "max-forwards": true,
}

// ForwardedFor reads the name of the header in which proxies in front say who the client is. It
// returns it in lower case, or "" for the one that is usual.
func ForwardedFor(name string) (string, error) {
	lower := strings.ToLower(strings.TrimSpace(name))
	if lower == "" || lower == "x-forwarded-for" {
		return "", nil
	}
	if err := FieldName(lower); err != nil {
		return "", err
	}
	if notAddresses[strings.ReplaceAll(lower, "_", "-")] {
		return "", fmt.Errorf("header %s does not say where a request comes from: name one such as CF-Connecting-IP", name)
	}
	return lower, nil
}

// FieldValue reports whether a text that others have written may stand in a header.
func FieldValue(v string) bool {
	return !strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// Printable reports whether a text has nothing but printable ASCII.
func Printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

// Realm reports whether a text may be a realm, which stands in quotes (RFC 9110 section 11.5).
func Realm(s string) bool { return Printable(s) && !strings.ContainsAny(s, `"\`) }

// CookieText reports whether a text may be the value of a cookie's attribute (RFC 6265 section
// 4.1.1).
func CookieText(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ';' || c == ',' })
}

// SameSite returns a value of the attribute SameSite as browsers know it, whatever its case.
// "" is none.
func SameSite(s string) (string, error) {
	for _, known := range []string{"", "Strict", "Lax", "None"} {
		if strings.EqualFold(s, known) {
			return known, nil
		}
	}
	return "", fmt.Errorf("SameSite %q is none of Strict, Lax and None", Shorten(s))
}

// ErrorStatus reports whether a status is that of an error.
func ErrorStatus(status int) bool { return status >= 400 && status <= 599 }

// Shorten bounds what is repeated of somebody's text in messages.
func Shorten(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// MediaType says what is wrong with the media type of a text.
func MediaType(s string) error {
	if !Printable(s) || s == "" || len(s) > MaxField || !strings.Contains(s, "/") {
		return fmt.Errorf("%q is no media type such as text/plain", Shorten(s))
	}
	return nil
}
