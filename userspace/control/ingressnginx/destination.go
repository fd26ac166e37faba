package ingressnginx

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/text/rule"
)

// destination reads a URL to which the proxy is to send requests of its own. What stands
// before the path is fixed, but for "$host" alone, so that no client can choose it.
func (r *reader) destination(text string) (d model.Destination, err error) {
	rest, tls := strings.CutPrefix(text, "https://")
	if !tls {
		var clear bool
		if rest, clear = strings.CutPrefix(text, "http://"); !clear {
			return d, fmt.Errorf("%q does not begin with http:// or https://", rule.Shorten(text))
		}
	}
	d.TLS = tls
	for _, name := range []string{"$host", "${host}", "$http_host", "${http_host}"} {
		if after, ok := strings.CutPrefix(rest, name); ok && (after == "" || after[0] == '/' || after[0] == '?' || after[0] == '$') {
			d.Authority, rest = "$host", after
		}
	}
	if d.Authority == "" {
		end := strings.IndexAny(rest, "/?$")
		if end < 0 {
			end = len(rest)
		}
		d.Authority, rest = withoutDot(strings.ToLower(rest[:end])), rest[end:]
		if d.Service, err = r.serviceBehind(d.Authority, tls); err != nil {
			return d, err
		}
	}
	if !strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "$request_uri") && !strings.HasPrefix(rest, "$uri") {
		rest = "/" + rest
	}
	if err := r.checkTemplate(rest); err != nil {
		return d, fmt.Errorf("%q: %w", rule.Shorten(text), err)
	}
	d.Path = rest
	return d, nil
}

// serviceBehind checks an authority, and finds the Service that has this name in the
// cluster's DNS.
func (r *reader) serviceBehind(authority string, tls bool) (none model.ServiceKey, err error) {
	host, port, err := rule.Authority(authority)
	if err != nil {
		return none, fmt.Errorf("%w; of the values of a request $host alone can stand for it", err)
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if err := rule.Destination(a, r.in.Own, r.in.Allowed); err != nil {
			return none, err
		}
	}
	if host == "localhost" && len(r.in.Allowed) == 0 {
		return none, errors.New("localhost is the node itself, and nothing is sent there: name another host, or allow the address with --allow-destinations of the agent")
	}
	if port == 0 && tls {
		port = 443
	} else if port == 0 {
		port = 80
	}
	labels := strings.Split(strings.TrimSuffix(host, ".cluster.local"), ".")
	if len(labels) != 3 || labels[2] != "svc" {
		return none, nil
	}
	if r.refs == nil {
		return model.ServiceKey{Namespace: labels[1], Name: labels[0], Port: strconv.Itoa(port)}, nil
	}
	return r.refs.Service(labels[1], labels[0], port)
}

// withoutDot removes the dot behind the host of an authority, which makes a name absolute
// (RFC 1034 section 3.1) and is no part of it in Host and SNI.
func withoutDot(authority string) string {
	host, port, hasPort := strings.Cut(authority, ":")
	if rest, dotted := strings.CutSuffix(host, "."); dotted && rest != "" {
		host = rest
	}
	if hasPort {
		return host + ":" + port
	}
	return host
}
