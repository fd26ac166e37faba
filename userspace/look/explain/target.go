package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/route"
)

// Target is the request that is explained.
type Target struct {
	Scheme  string // "http" or "https"
	Host    string // as routing sees it: lower case, no port
	Port    uint16
	Path    string     // normalised, as routing sees it
	Address netip.Addr // ingress address that the client dials; invalid: any of them
	From    netip.Addr // client's address; invalid: not judged

	Authority string // the Host header
	Sent      string // path and query as rules and pods get them
	Request   Request
}

// ParseTarget reads a URL as an operator types it: the scheme may be missing, and an
// address instead of a name is both what is dialled and the Host that is sent.
func ParseTarget(raw string) (Target, error) {
	text := raw
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return Target{}, fmt.Errorf("%q is not a URL: %w", raw, errors.Unwrap(err))
	}
	t := Target{Scheme: strings.ToLower(u.Scheme), Host: strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")}
	switch t.Scheme {
	case "http":
		t.Port = 80
	case "https":
		t.Port = 443
	default:
		return Target{}, fmt.Errorf("%q: scheme %q is not http or https", raw, u.Scheme)
	}
	if t.Host == "" {
		return Target{}, fmt.Errorf("%q names no host; try http://HOST/PATH", raw)
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return Target{}, fmt.Errorf("%q: port %q is not within 1-65535", raw, p)
		}
		t.Port = uint16(n)
	}
	t.Authority = u.Host
	if defaultPort := map[string]string{"http": ":80", "https": ":443"}[t.Scheme]; strings.HasSuffix(t.Authority, defaultPort) {
		t.Authority = strings.TrimSuffix(t.Authority, defaultPort) // clients leave it out
	}
	path := u.EscapedPath()
	if _, sent, _ := strings.Cut(text, "://"); strings.Contains(sent, `\`) {
		// package url would escape what a client sends as it is
		_, sent, _ = strings.Cut(sent, "/")
		sent, _, _ = strings.Cut(sent, "#")
		sent, _, _ = strings.Cut(sent, "?")
		path = "/" + sent
	}
	if t.Path, err = normalise(path); err != nil {
		return Target{}, fmt.Errorf("%q: %w; a proxy answers it with 400", raw, err)
	}
	if t.Sent = string(route.ResolvePath(nil, []byte(path))); t.Sent == "" {
		t.Sent = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		t.Sent += "?" + u.RawQuery
	}
	if a, err := netip.ParseAddr(t.Host); err == nil {
		t.Address = a.Unmap()
	}
	return t, nil
}
