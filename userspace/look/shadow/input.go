package shadow

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// MaxInput is the most that is read of a file, in bytes.
const MaxInput = 256 << 20

// Read reads a HAR file, or an access log: in nginx's "combined" format and those that begin like
// it, or in lines of JSON as Kerngate writes them. host is that of lines which name none. skipped
// is how many lines are no requests.
func Read(r io.Reader, host string) (requests []Request, skipped int, err error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxInput+1))
	if err != nil {
		return nil, 0, err
	}
	if len(raw) > MaxInput {
		return nil, 0, fmt.Errorf("the input has more than %d MiB: replay a part of it", MaxInput>>20)
	}
	var har struct {
		Log *struct {
			Entries []struct {
				Request struct {
					Method, URL string
					Headers     []struct{ Name, Value string }
					PostData    struct{ Text string }
				}
			}
		}
	}
	if json.Unmarshal(raw, &har) == nil && har.Log != nil {
		for _, e := range har.Log.Entries {
			u, err := url.Parse(e.Request.URL)
			if err != nil || u.Host == "" {
				skipped++
				continue
			}
			one := Request{Method: e.Request.Method, Host: u.Host, Target: u.RequestURI(), Header: http.Header{}, Body: []byte(e.Request.PostData.Text)}
			for _, h := range e.Request.Headers {
				one.Header.Add(h.Name, h.Value)
			}
			if one.valid() {
				requests = append(requests, one)
			} else {
				skipped++
			}
		}
	} else {
		requests, skipped, err = readLines(raw, host)
	}
	if err == nil && len(requests) == 0 {
		err = errors.New("the input has no request: want a HAR file, or an access log in nginx's format or Kerngate's")
	}
	return requests, skipped, err
}

// logged finds what is asked for in a line of nginx's log: "METHOD TARGET HTTP/x".
var logged = regexp.MustCompile(`"([A-Z]+) (\S+) HTTP/[0-9.]+"`)

func readLines(raw []byte, host string) (requests []Request, skipped int, err error) {
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		one := Request{Host: host}
		if strings.HasPrefix(line, "{") {
			var entry struct {
				Method, Host, Path, Query, URI string
			}
			if json.Unmarshal([]byte(line), &entry) == nil {
				one.Method, one.Target = entry.Method, entry.Path
				if entry.Path == "" {
					one.Target = entry.URI
				}
				if entry.Query != "" {
					one.Target += "?" + entry.Query
				}
				if entry.Host != "" {
					one.Host = entry.Host
				}
			}
		} else if m := logged.FindStringSubmatch(line); m != nil {
			one.Method, one.Target = m[1], m[2]
		}
		if !one.valid() {
			if one.Method != "" && one.Host == "" {
				return nil, 0, errors.New("the log does not name the hosts of its requests: name the one that they are for with --host")
			}
			skipped++
			continue
		}
		requests = append(requests, one)
	}
	return requests, skipped, lines.Err()
}

// valid reports whether a request can be sent as it is: nothing of a log may become another
// request or header.
func (r Request) valid() bool {
	if r.Method == "" || r.Host == "" || !strings.HasPrefix(r.Target, "/") || strings.ContainsFunc(r.Method, func(c rune) bool { return c < 'A' || c > 'Z' }) {
		return false
	}
	return !strings.ContainsFunc(r.Host+r.Target, func(c rune) bool { return c <= ' ' || c >= 0x7f }) && !strings.ContainsAny(r.Host, "/?#@\\")
}
