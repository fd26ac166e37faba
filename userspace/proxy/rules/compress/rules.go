// Package compress decides which responses are compressed, and does it.
package compress

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/text/compression"
)

// Rules say which responses are compressed. The zero value compresses none.
type Rules struct {
	Encodings []compression.Encoding // in order of preference; none: nothing is compressed
	minBytes  int64                  // 0: open
	types     types                  // nil: open
}

// types are media types, and families: "text/".
type types map[string]struct{}

var defaultTypes = func() types {
	t, err := compileTypes(compression.DefaultTypes)
	if err != nil {
		panic(err) // they are constants
	}
	return t
}()

// Compile checks rules. What they leave open is as the proxy's own rules have it.
func Compile(p *feedpb.Compression) (r *Rules, err error) {
	r = &Rules{minBytes: int64(min(p.GetMinBytes(), 1<<62))}
	if r.Encodings, err = compression.ParseEncodings(p.GetEncodings()); err != nil {
		return nil, err
	}
	r.types, err = compileTypes(p.GetTypes())
	return r, err
}

func compileTypes(names []string) (t types, err error) {
	for _, text := range names {
		name, err := compression.ParseType(text)
		if err != nil {
			return nil, fmt.Errorf("compressed types: %w", err)
		}
		if family, all := strings.CutSuffix(name, "/*"); all {
			name = family + "/"
		}
		if t == nil {
			t = types{}
		}
		t[name] = struct{}{}
	}
	return t, nil
}

// MinBytes returns below which length bodies are left as they are. own are the proxy's rules.
func (r *Rules) MinBytes(own *Rules) int64 {
	return cmp.Or(r.minBytes, own.minBytes, compression.DefaultMinBytes)
}

// maxType is longer than any media type that could be among the rules.
const maxType = 128

// Gains reports whether bodies of a Content-Type are worth compressing. own are the proxy's
// rules.
func (r *Rules) Gains(own *Rules, contentType []byte) bool {
	switch {
	case r.types != nil:
		return r.types.contain(contentType)
	case own.types != nil:
		return own.types.contain(contentType)
	}
	return defaultTypes.contain(contentType)
}

func (t types) contain(contentType []byte) bool {
	name, _, _ := bytes.Cut(contentType, []byte{';'})
	name = bytes.TrimRight(name, " \t")
	if len(name) > maxType {
		return false
	}
	var room [maxType]byte
	lower := room[:copy(room[:], name)]
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c | 0x20
		}
	}
	if _, ok := t[string(lower)]; ok {
		return true
	}
	slash := bytes.IndexByte(lower, '/')
	if slash < 0 || string(lower) == "text/event-stream" { // whose events are to arrive at once
		return false
	}
	_, ok := t[string(lower[:slash+1])]
	return ok
}
