// Package messagetest makes heads of messages in tests, and describes them for comparison.
package messagetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// Simple is the shortest request: its pseudo-header fields.
const Simple = ":method GET\n:scheme https\n:authority example.com\n:path /\n"

// Split splits lines "name value", of which a pseudo-header field's begins with ':'.
func Split(lines string) (fields [][2]string) {
	for line := range strings.SplitSeq(lines, "\n") {
		if line == "" {
			continue
		}
		i := strings.IndexByte(line[1:], ' ') + 1
		if i == 0 {
			fields = append(fields, [2]string{line, ""})
			continue
		}
		fields = append(fields, [2]string{line[:i], line[i+1:]})
	}
	return fields
}

// Compose makes a request of lines as Split takes them.
func Compose(r *message.Request, lines string, ended bool, lim message.Limits) error {
	r.Compose(lim)
	for _, f := range Split(lines) {
		if err := r.AddField(f[0], f[1]); err != nil {
			if again := r.Finish(ended); again != err {
				return fmt.Errorf("AddField says %w, Finish %v", err, again)
			}
			return err
		}
	}
	return r.Finish(ended)
}

// Show describes all that is known of a request, for comparison.
func Show(r *message.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s(%s) target=%q path=%q query=%q/%t norm=%t abs=%t secure=%t authority=%q host=%q port=%d 1.%d "+
		"length=%d chunked=%t keep=%t upgrade=%q expect=%t te=%t\n",
		r.Method, r.MethodID, r.Target, r.Path, r.Query, r.Query != nil, r.PathNeedsNormalise, r.Absolute, r.Secure,
		r.Authority, r.Host, r.Port, r.Minor, r.ContentLength, r.Chunked, r.KeepAlive, r.Upgrade, r.Expect100, r.TETrailers)
	showFields(&b, r.Fields)
	return b.String()
}

func showFields(b *strings.Builder, fields []message.Field) {
	for i := range fields {
		f := &fields[i]
		fmt.Fprintf(b, "  %q: %q id=%q hop=%t\n", f.Name, f.Value, f.ID, f.HopByHop)
	}
}

// ShowResponse is Show for a response.
func ShowResponse(r *message.Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q 1.%d body=%d length=%d chunked=%t keep=%t upgrade=%q\n",
		r.Status, r.Reason, r.Minor, r.Body, r.ContentLength, r.Chunked, r.KeepAlive, r.Upgrade)
	showFields(&b, r.Fields)
	return b.String()
}

// Fault returns err as a *message.Error, or nil.
func Fault(t testing.TB, err error) *message.Error {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *message.Error
	if !errors.As(err, &e) || e == nil || e.Reason == "" {
		t.Fatalf("error %v is not a reported *Error", err)
	}
	return e
}
