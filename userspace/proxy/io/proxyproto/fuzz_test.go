package proxyproto

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// FuzzParse: whatever comes, a header is found at the same place however the bytes arrive;
// a fault once found stays; text headers agree with a plain reading of the specification;
// and what was read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, c := range valid {
		f.Add([]byte(c.header))
	}
	f.Add([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"))
	f.Add([]byte(withChecksum(0x21, 0x21, body6+tlv(5, "id"), 7)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil && n != 0 || n < 0 || n > len(b) || n > MaxSize {
			t.Fatalf("%d bytes of %d, %v", n, len(b), err)
		}
		if n == 0 && err == nil && len(b) >= MaxSize {
			t.Fatal("asks for more than the limit")
		}
		for i := range min(len(b), 300) {
			first, m, early := Parse(b[:i])
			switch {
			case m != 0 && (m != n || first != h || err != nil):
				t.Fatalf("after %d bytes a header of %d, in the end %d, %v", i, m, n, err)
			case early != nil && err == nil:
				t.Fatalf("after %d bytes: %v; in the end none", i, early)
			}
		}
		if strings.HasPrefix(string(b), "PROXY TCP") {
			if want, ok := naiveText(string(b)); ok != (n > 0) || ok && want != h {
				t.Fatalf("%+v, %v; a plain reading: %+v, %t", h, err, want, ok)
			}
		}
		if n == 0 {
			return
		}
		again, m, err := Parse(Append(nil, h))
		if err != nil || m == 0 || again != h {
			t.Fatalf("%+v written and read is %+v, %v", h, again, err)
		}
	})
}

// naiveText reads a text header with the standard library's means.
func naiveText(s string) (Header, bool) {
	line, _, ok := strings.Cut(s, "\r\n")
	if !ok || len(line)+2 > 107 || strings.Contains(line, "\n") {
		return Header{}, false
	}
	words := strings.Split(line, " ")
	if len(words) != 6 {
		return Header{}, false
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		a, err := netip.ParseAddr(words[2+i])
		if err != nil || a.Zone() != "" || a.Is4() != (words[1] == "TCP4") || words[1] != "TCP4" && words[1] != "TCP6" {
			return Header{}, false
		}
		var port uint16
		if _, err := fmt.Sscan(words[4+i], &port); err != nil || fmt.Sprint(port) != words[4+i] {
			return Header{}, false
		}
		ends[i] = netip.AddrPortFrom(a.Unmap(), port)
	}
	return Header{Source: ends[0], Destination: ends[1], Version: 1}, true
}
