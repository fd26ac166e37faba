package explain

import "github.com/kerngate/kerngate/userspace/route"

// normalise returns a URL's escaped path as routing sees it. It is the proxy's own
// function: an explanation must not have an opinion of its own.
func normalise(escaped string) (string, error) {
	if escaped == "" {
		return "/", nil
	}
	path, err := route.NormalisePath(nil, []byte(escaped))
	if err != nil {
		return "", err
	}
	return string(path), nil
}
