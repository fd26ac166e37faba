package policy

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/text/rule"
	"github.com/kerngate/kerngate/userspace/text/template"
)

// Balance is which pod of a service gets a request. nil leaves that to the service.
type Balance struct {
	Algorithm balance.Algorithm
	Subset    int       // pods that a hashed value sticks to, 0: one
	Affinity  *Affinity // nil: none
	hashBy    template.Template
}

// Hash returns the hash that chooses the pod. ok is false if none is asked for, or the
// request has no such value. room is overwritten, and returned for its capacity.
func (b *Balance) Hash(room []byte, q *Request) (hash uint64, ok bool, _ []byte) {
	if len(b.hashBy) == 0 {
		return 0, false, room
	}
	room = q.fill(room[:0], b.hashBy)
	return balance.Hash(room), len(room) > 0, room
}

// Affinity is the cookie that keeps a client at a pod.
type Affinity struct {
	// Balanced spreads a part of the clients anew when pods come.
	Balanced bool
	// ChangeOnFailure gives a client whose pod cannot answer another one for good.
	ChangeOnFailure bool
	// Canary keeps a client with the service, main or canary, that it came to.
	Canary bool

	name        string
	attributes  string // behind the value, but for those that depend on the request
	expires     time.Duration
	sameSite    string
	conditional bool  // SameSite=None is left out for clients that misread it
	secure      *bool // nil: over TLS alone
}

func compileBalance(p *feedpb.Balance, path string, isRegexp bool) (*Balance, error) {
	if p == nil {
		return nil, nil
	}
	b := &Balance{Subset: int(min(p.Subset, 1<<16))}
	switch p.Algorithm {
	case feedpb.Algorithm_SERVICE, feedpb.Algorithm_MAGLEV: // the latter by hashBy, and without one as ever
	case feedpb.Algorithm_P2C:
		b.Algorithm = balance.P2C
	case feedpb.Algorithm_ROUND_ROBIN:
		b.Algorithm = balance.RoundRobin
	case feedpb.Algorithm_EWMA:
		b.Algorithm = balance.EWMA
	default:
		return nil, fmt.Errorf("algorithm %d: this proxy has none of that number", p.Algorithm)
	}
	var err error
	if b.hashBy, err = template.Parse(p.HashBy); err != nil {
		return nil, err
	}
	b.Affinity, err = compileAffinity(p.Affinity, path, isRegexp)
	return b, err
}

func compileAffinity(p *feedpb.Affinity, path string, isRegexp bool) (*Affinity, error) {
	if p == nil {
		return nil, nil
	}
	if !rule.Token(p.Cookie) {
		return nil, fmt.Errorf("%q is no cookie's name", p.Cookie)
	}
	if p.Path != "" {
		path = p.Path
	} else if isRegexp || !rule.CookieText(path) {
		path = "/"
	}
	for _, text := range []string{path, p.Domain} {
		if !rule.CookieText(text) {
			return nil, fmt.Errorf("%q cannot be the value of a cookie's attribute", text)
		}
	}
	sameSite, err := rule.SameSite(p.SameSite)
	if err != nil {
		return nil, err
	}
	a := &Affinity{
		Balanced: !p.Persistent, ChangeOnFailure: p.ChangeOnFailure, Canary: p.Canary,
		name: p.Cookie, attributes: "; Path=" + path,
		expires:  time.Duration(p.ExpiresSeconds) * time.Second,
		sameSite: sameSite, conditional: p.ConditionalSameSite, secure: p.Secure,
	}
	if p.Domain != "" {
		a.attributes += "; Domain=" + p.Domain
	}
	if p.MaxAgeSeconds > 0 {
		a.attributes += "; Max-Age=" + strconv.FormatUint(uint64(p.MaxAgeSeconds), 10)
	}
	return a, nil
}

// Value returns the value of the cookie that the client has sent, nil if there is none.
func (a *Affinity) Value(q *Request) []byte { return q.cookie(a.name) }

// AppendCookie appends the Set-Cookie that gives a client this value. Scripts cannot read
// it.
func (a *Affinity) AppendCookie(dst []byte, q *Request, value []byte) []byte {
	dst = append(append(dst, a.name...), '=')
	dst = append(append(dst, value...), a.attributes...)
	if a.expires > 0 {
		dst = append(dst, "; Expires="...)
		dst = time.Unix(0, q.Now).Add(a.expires).UTC().AppendFormat(dst, http.TimeFormat)
	}
	if q.Secure || a.secure != nil && *a.secure { // over https always, as in ingress-nginx
		dst = append(dst, "; Secure"...)
	}
	dst = append(dst, "; HttpOnly"...)
	if a.sameSite != "" && !(a.conditional && a.sameSite == "None" && misreadsNone(q.Lookup("user-agent"))) {
		dst = append(append(dst, "; SameSite="...), a.sameSite...)
	}
	return dst
}

// misreadsNone reports whether a browser is one of those that take SameSite=None for
// Strict, or throw the cookie away (chromium.org, "SameSite=None: Known Incompatible
// Clients"): Chrome 51 to 66, UC Browser before 12.13.2, everything on iOS 12, and Safari on
// macOS 10.14.
func misreadsNone(agent []byte) bool {
	if v, ok := version(agent, "Chrome/"); ok && v >= 51 && v <= 66 {
		return true
	}
	if v, ok := version(agent, "Chromium/"); ok && v >= 51 && v <= 66 {
		return true
	}
	if _, rest, ok := bytes.Cut(agent, []byte("UCBrowser/")); ok {
		var parts [3]int
		for i := range parts {
			parts[i], _ = version(rest, "")
			_, rest, _ = bytes.Cut(rest, []byte{'.'})
		}
		return parts[0] < 12 || parts[0] == 12 && (parts[1] < 13 || parts[1] == 13 && parts[2] < 2)
	}
	apple := bytes.Contains(agent, []byte("AppleWebKit/"))
	if apple && (bytes.Contains(agent, []byte("iPhone OS 12_")) || bytes.Contains(agent, []byte("iPad; CPU OS 12_"))) {
		return true
	}
	return apple && bytes.Contains(agent, []byte("Mac OS X 10_14")) &&
		!bytes.Contains(agent, []byte("Chrome/")) && !bytes.Contains(agent, []byte("Chromium/"))
}

// version returns the number behind name.
func version(agent []byte, name string) (n int, ok bool) {
	i := bytes.Index(agent, []byte(name))
	if i < 0 {
		return 0, false
	}
	for _, c := range agent[i+len(name):] {
		if c < '0' || c > '9' || n > 9999 {
			break
		}
		n, ok = n*10+int(c-'0'), true
	}
	return n, ok
}
