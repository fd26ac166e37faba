package abi

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func TestBlock(t *testing.T) {
	b := MakeBlock(0xfedcba98, 0x1234, 0xabcd)
	if b.Offset() != 0xfedcba98 || b.Count() != 0x1234 || b.Generation() != 0xabcd {
		t.Errorf("block %x: offset %x, count %x, generation %x", b, b.Offset(), b.Count(), b.Generation())
	}
}

// The kernel lays out array entries in multiples of 8 bytes; slices over mapped memory
// are right only if the types are such multiples.
func TestEntriesAreWholeWords(t *testing.T) {
	for name, size := range map[string]uintptr{
		"Service": unsafe.Sizeof(Service{}), "Slot": unsafe.Sizeof(Slot{}), "Backend": unsafe.Sizeof(Backend{}),
		"Generation": unsafe.Sizeof(Generation{}), "Meta": unsafe.Sizeof(Meta{}),
	} {
		if size%8 != 0 || size > 8*WriteWords {
			t.Errorf("%s has %d bytes, want a multiple of 8 that fits a Write", name, size)
		}
	}
	for name, size := range map[string]uintptr{"Worker": unsafe.Sizeof(Worker{}), "BackendLoad": unsafe.Sizeof(BackendLoad{})} {
		if size != 64 {
			t.Errorf("%s has %d bytes, want a cache line", name, size)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, s := range []string{"192.0.2.1:80", "[2001:db8::1]:65535", "[::]:1"} {
		a := netip.MustParseAddrPort(s)
		if got := MakeListenerKey(a, 6).AddrPort(); got != a {
			t.Errorf("%v came back as %v", a, got)
		}
	}
	mapped := netip.MustParseAddr("::ffff:192.0.2.1")
	if AddressOf(mapped) != AddressOf(mapped.Unmap()) {
		t.Error("an IPv4 address has two forms")
	}
}

func TestPrefixes(t *testing.T) {
	for s, bits := range map[string]uint32{"0.0.0.0/0": 96, "192.0.2.0/24": 120, "2001:db8::/32": 32, "::/0": 0} {
		p := netip.MustParsePrefix(s)
		k := MakePrefix(p)
		if k.PrefixLen != bits || k.Prefix() != p {
			t.Errorf("%v: %d bits, comes back as %v; want %d", p, k.PrefixLen, k.Prefix(), bits)
		}
	}
	if k := MakePrefix(netip.MustParsePrefix("192.0.2.77/24")); k.Prefix().String() != "192.0.2.0/24" {
		t.Errorf("host bits were kept: %v", k.Prefix())
	}
}

func TestServiceName(t *testing.T) {
	for _, name := range []string{"", "a/b:80", strings.Repeat("x", NameLen-1)} {
		n, ok := MakeServiceName(name)
		if !ok || n.String() != name {
			t.Errorf("%q came back as %q, %v", name, n.String(), ok)
		}
	}
	for _, name := range []string{strings.Repeat("x", NameLen), "a\x00b"} {
		if _, ok := MakeServiceName(name); ok {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestReasonNames(t *testing.T) {
	seen := make(map[string]bool)
	for r := range Reasons {
		program, name := ReasonNames(r)
		if !slices.Contains([]string{"kg_lookup", "kg_quic", "kg_xdp"}, program) || name == "" || seen[program+name] {
			t.Errorf("reason %d is %q of %q", r, name, program)
		}
		seen[program+name] = true
	}
}
