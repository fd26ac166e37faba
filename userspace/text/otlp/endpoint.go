// Package otlp says where spans can be sent. The agent checks it, the proxy sends them.
package otlp

import (
	"errors"
	"fmt"
	"net/url"
)

// ParseEndpoint checks the URL of a collector. Without a path it is OTLP's own, /v1/traces.
func ParseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("want a URL like http://collector.example:4318, without user, query or fragment")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return u, nil
}
