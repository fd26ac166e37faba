package proxyproto

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// v2 composes a header of version 2.
func v2(command, family byte, body string) string {
	return signature + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

func tlv(kind byte, value string) string {
	return string([]byte{kind, byte(len(value) >> 8), byte(len(value))}) + value
}

// withChecksum appends a checksum to a header's TLVs, spoiled if wrong is not 0.
func withChecksum(command, family byte, body string, wrong uint32) string {
	h := []byte(v2(command, family, body+tlv(tlvChecksum, "\x00\x00\x00\x00")))
	sum := crc32.Checksum(h, castagnoli) ^ wrong
	binary.BigEndian.PutUint32(h[len(h)-4:], sum)
	return string(h)
}

const (
	body4 = "\xc0\x00\x02\x01\xc6\x33\x64\x01\x30\x39\x01\xbb" // 192.0.2.1:12345 -> 198.51.100.1:443
	body6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x30\x39\x01\xbb"
	bodyMapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x30\x39\x01\xbb"
)

var valid = []struct {
	name, header        string
	source, destination string // "": nobody
	version             uint8
}{
	{"v1 IPv4", "PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\n", "192.0.2.1:12345", "198.51.100.1:443", 1},
	{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:DB8:0:0::2 12345 443\r\n", "[2001:db8::1]:12345", "[2001:db8::2]:443", 1},
	{"v1 mixed families", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 0 65535\r\n", "192.0.2.1:0", "[2001:db8::2]:65535", 1},
	{"v1 longest of IPv4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535", 1},
	{"v1 unknown", "PROXY UNKNOWN\r\n", "", "", 1},
	{"v1 unknown with words", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", "", 1},
	{"v1 unknown, longest", "PROXY UNKNOWN " + strings.Repeat("x", maxText-len("PROXY UNKNOWN \r\n")) + "\r\n", "", "", 1},
	{"v2 IPv4", v2(0x21, 0x11, body4), "192.0.2.1:12345", "198.51.100.1:443", 2},
	{"v2 IPv6", v2(0x21, 0x21, body6), "[2001:db8::1]:12345", "[2001:db8::2]:443", 2},
	{"v2 mixed families", v2(0x21, 0x21, bodyMapped), "192.0.2.1:12345", "[2001:db8::2]:443", 2},
	{"v2 TLVs", v2(0x21, 0x11, body4+tlv(1, "h2")+tlv(4, "")+tlv(0xea, "\x01vpce-1")), "192.0.2.1:12345", "198.51.100.1:443", 2},
	{"v2 checksum", withChecksum(0x21, 0x11, body4+tlv(1, "h2"), 0), "192.0.2.1:12345", "198.51.100.1:443", 2},
	{"v2 local", v2(0x20, 0x00, ""), "", "", 2},
	{"v2 local with addresses", v2(0x20, 0x11, body4), "", "", 2},
	{"v2 local with anything", v2(0x20, 0x00, "\x03\x00\x04abcd\xff"), "", "", 2},
	{"v2 unspecified", v2(0x21, 0x00, ""), "", "", 2},
	{"v2 longest", v2(0x21, 0x11, body4+tlv(4, strings.Repeat("p", MaxSize-fixedSize-len(body4)-3))), "192.0.2.1:12345", "198.51.100.1:443", 2},
}

// TestValid: each header is read from the connection's beginning, however few of its bytes
// have come at a time, and what follows is left alone.
func TestValid(t *testing.T) {
	for _, c := range valid {
		t.Run(c.name, func(t *testing.T) {
			want := Header{Version: c.version}
			if c.source != "" {
				want.Source, want.Destination = addr(c.source), addr(c.destination)
			}
			for _, next := range []string{"", "GET / HTTP/1.1\r\n", "\r\n", signature} {
				h, n, err := Parse([]byte(c.header + next))
				if err != nil || n != len(c.header) || h != want {
					t.Fatalf("before %q: %+v, %d, %v; want %+v, %d", next, h, n, err, want, len(c.header))
				}
			}
			for i := range c.header {
				if _, n, err := Parse([]byte(c.header[:i])); n != 0 || err != nil {
					t.Fatalf("after %d bytes: %d, %v; want to be asked for more", i, n, err)
				}
			}
			if want.Named() != (c.source != "") {
				t.Errorf("Named is %t", want.Named())
			}
		})
	}
}

// TestRefused: a fault is told at the byte that makes it one (at is how many bytes are
// needed), and never before.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         *Error
		at           int // 0: all
	}{
		{"a request", "GET / HTTP/1.1\r\n", ErrMissing, 1},
		{"a TLS record", "\x16\x03\x01\x02\x00", ErrMissing, 1},
		{"the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrMissing, 3},
		{"lower case", "proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n", ErrMissing, 1},
		{"an empty line", "\r\nGET / HTTP/1.1\r\n", ErrMissing, 3},
		{"a broken signature", "\r\n\r\n\x00\r\nQUIT\r", ErrMissing, 12},

		{"v1 bare LF", "PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\n", ErrSyntax, 0},
		{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("x", 200), ErrTooLong, maxText},
		{"v1 unknown with control bytes", "PROXY UNKNOWN \x00\r\n", ErrSyntax, 0},
		{"v1 unknown with CR", "PROXY UNKNOWN a\rb\r\n", ErrSyntax, 0},
		{"v1 nothing", "PROXY \r\n", ErrSyntax, 0},
		{"v1 another family", "PROXY UDP4 192.0.2.1 198.51.100.1 12345 443\r\n", ErrSyntax, 0},
		{"v1 family alone", "PROXY TCP4\r\n", ErrSyntax, 0},
		{"v1 a word short", "PROXY TCP4 192.0.2.1 198.51.100.1 12345\r\n", ErrSyntax, 0},
		{"v1 a word more", "PROXY TCP4 192.0.2.1 198.51.100.1 12345 443 1\r\n", ErrSyntax, 0},
		{"v1 space at the end", "PROXY TCP4 192.0.2.1 198.51.100.1 12345 443 \r\n", ErrSyntax, 0},
		{"v1 two spaces", "PROXY TCP4  192.0.2.1 198.51.100.1 12345 443\r\n", ErrSyntax, 0},
		{"v1 tab", "PROXY TCP4 192.0.2.1\t198.51.100.1 12345 443\r\n", ErrSyntax, 0},
		{"v1 wrong family", "PROXY TCP4 2001:db8::1 2001:db8::2 12345 443\r\n", ErrAddress, 0},
		{"v1 IPv4 as TCP6", "PROXY TCP6 192.0.2.1 198.51.100.1 12345 443\r\n", ErrAddress, 0},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 2001:db8::2 12345 443\r\n", ErrAddress, 0},
		{"v1 octal", "PROXY TCP4 192.0.2.01 198.51.100.1 12345 443\r\n", ErrAddress, 0},
		{"v1 short address", "PROXY TCP4 192.2 198.51.100.1 12345 443\r\n", ErrAddress, 0},
		{"v1 port too large", "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n", ErrAddress, 0},
		{"v1 port with zero before", "PROXY TCP4 192.0.2.1 198.51.100.1 012 443\r\n", ErrAddress, 0},
		{"v1 port with sign", "PROXY TCP4 192.0.2.1 198.51.100.1 +12 443\r\n", ErrAddress, 0},
		{"v1 empty port", "PROXY TCP4 192.0.2.1 198.51.100.1  443\r\n", ErrAddress, 0},

		{"v2 version 1", v2(0x11, 0x11, body4), ErrVersion, 13},
		{"v2 version 3", v2(0x31, 0x11, body4), ErrVersion, 13},
		{"v2 another command", v2(0x22, 0x11, body4), ErrVersion, 13},
		{"v2 UDP", v2(0x21, 0x12, body4), ErrTransport, 16},
		{"v2 UDP over IPv6", v2(0x21, 0x22, body6), ErrTransport, 16},
		{"v2 unspecified transport", v2(0x21, 0x10, body4), ErrTransport, 16},
		{"v2 unix", v2(0x21, 0x31, strings.Repeat("\x00", 216)), ErrTransport, 16},
		{"v2 another family", v2(0x21, 0x41, body4), ErrSyntax, 16},
		{"v2 another transport", v2(0x21, 0x13, body4), ErrSyntax, 16},
		{"v2 local, another family", v2(0x20, 0x51, ""), ErrSyntax, 16},
		{"v2 short addresses", v2(0x21, 0x11, body4[:11]), ErrAddress, 16},
		{"v2 IPv4 addresses as IPv6", v2(0x21, 0x21, body4), ErrAddress, 16},
		{"v2 too long", v2(0x21, 0x11, body4+strings.Repeat("\x04", MaxSize)), ErrTooLong, 16},
		{"v2 longest possible", v2(0x21, 0x11, strings.Repeat("\x04", 65535)), ErrTooLong, 16},
		{"v2 half a TLV", v2(0x21, 0x11, body4+"\x01\x00"), ErrTLV, 0},
		{"v2 TLV beyond the end", v2(0x21, 0x11, body4+"\x01\x00\x03h2"), ErrTLV, 0},
		{"v2 wrong checksum", withChecksum(0x21, 0x11, body4, 1), ErrChecksum, 0},
		{"v2 short checksum", v2(0x21, 0x11, body4+tlv(3, "abc")), ErrTLV, 0},
		{"v2 two checksums", v2(0x21, 0x11, body4+tlv(3, "abcd")+tlv(3, "abcd")), ErrTLV, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := c.at
			if at == 0 {
				at = len(c.header)
			}
			for i := range at {
				if _, n, err := Parse([]byte(c.header[:i])); n != 0 || err != nil {
					t.Fatalf("after %d bytes: %d, %v; want to be asked for more", i, n, err)
				}
			}
			for _, i := range []int{at, len(c.header)} {
				h, n, err := Parse([]byte(c.header[:i]))
				if !errors.Is(err, c.want) || n != 0 || h != (Header{}) {
					t.Fatalf("after %d bytes: %+v, %d, %v; want %v", i, h, n, err, c.want)
				}
			}
		})
	}
}

// TestAppend: what is written is what the specification's examples are, and is read back.
func TestAppend(t *testing.T) {
	for _, c := range []struct {
		source, destination string
		v1, v2              string
	}{
		{"192.0.2.1:12345", "198.51.100.1:443", "PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\n", v2(0x21, 0x11, body4)},
		{"[::ffff:192.0.2.1]:12345", "198.51.100.1:443", "PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\n", v2(0x21, 0x11, body4)},
		{"[2001:db8::1]:12345", "[2001:db8::2]:443", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n", v2(0x21, 0x21, body6)},
		{"192.0.2.1:12345", "[2001:db8::2]:443", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 12345 443\r\n", v2(0x21, 0x21, bodyMapped)},
		{"[2001:db8::1%eth0]:12345", "[2001:db8::2]:443", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n", v2(0x21, 0x21, body6)},
		{"", "198.51.100.1:443", "PROXY UNKNOWN\r\n", v2(0x20, 0x00, "")},
	} {
		h := Header{Destination: addr(c.destination)}
		if c.source != "" {
			h.Source = addr(c.source)
		}
		for version, want := range map[uint8]string{1: c.v1, 2: c.v2} {
			h.Version = version
			got := string(Append([]byte("x"), h))
			if got != "x"+want {
				t.Errorf("%s v%d: %q, want %q", c.source, version, got, want)
			}
			if len(want) > MaxWritten {
				t.Errorf("%s v%d: %d bytes", c.source, version, len(want))
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	h := Header{Source: addr("[2001:db8::1]:12345"), Destination: addr("192.0.2.1:443")}
	buf := make([]byte, 0, MaxWritten)
	for h.Version = 1; h.Version <= 2; h.Version++ {
		if n := testing.AllocsPerRun(100, func() { buf = Append(buf[:0], h) }); n != 0 {
			t.Errorf("writing version %d: %v allocations", h.Version, n)
		}
	}
}
