// Package chars classifies the characters of HTTP messages, and scans and compares bytes by these
// Classes.
package chars

import (
	"encoding/binary"
	"math/bits"
)

// Character Classes, one bit each.
const (
	Token      = 1 << iota // tchar, RFC 9110 section 5.6.2
	Underscore             // '_', a token character that CGI confuses with '-'
	Target                 // allowed in a request target, '?' included
	PathMark               // '%', '/', '\\' and '?': a path scan has to look closer
	Host                   // lower-case letters, digits, '-', '.', '_', '~'
	Upper                  // 'A' to 'Z'
	Hex                    // hexadecimal digit
	Digit                  // decimal digit
)

// Classes maps a byte to its character Classes.
var Classes = func() (t [256]uint8) {
	for c := byte(0x21); c < 0x7f; c++ {
		if c != '#' {
			t[c] |= Target
		}
		switch {
		case '0' <= c && c <= '9':
			t[c] |= Token | Host | Hex | Digit
		case 'a' <= c && c <= 'z':
			t[c] |= Token | Host
		case 'A' <= c && c <= 'Z':
			t[c] |= Token | Upper
		}
		switch lower := c | 0x20; {
		case 'a' <= lower && lower <= 'f':
			t[c] |= Hex
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= Token
	}
	for _, c := range "-._~" {
		t[c] |= Host
	}
	for _, c := range "%/?\\" {
		t[c] |= PathMark
	}
	t['_'] |= Underscore
	return t
}()

// HexValues maps a hexadecimal digit to its value; use it after a Hex check.
var HexValues = func() (t [256]uint8) {
	for c := byte('0'); c <= '9'; c++ {
		t[c] = c - '0'
	}
	for c := byte('a'); c <= 'f'; c++ {
		t[c] = c - 'a' + 10
		t[c-0x20] = c - 'a' + 10
	}
	return t
}()

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// ControlAt returns the index of the first byte at or after i that is below
// 0x20 or is 0x7f, or len(buf) if there is none.
func ControlAt(buf []byte, i int) int {
	for ; i+16 <= len(buf); i += 16 {
		b := buf[i : i+16 : i+16]
		low := controls(binary.LittleEndian.Uint64(b))
		high := controls(binary.LittleEndian.Uint64(b[8:]))
		if low != 0 {
			return i + bits.TrailingZeros64(low)>>3
		}
		if high != 0 {
			return i + 8 + bits.TrailingZeros64(high)>>3
		}
	}
	if i+8 <= len(buf) {
		if mark := controls(binary.LittleEndian.Uint64(buf[i:])); mark != 0 {
			return i + bits.TrailingZeros64(mark)>>3
		}
		i += 8
	}
	for ; i < len(buf); i++ {
		if c := buf[i]; c < 0x20 || c == 0x7f {
			return i
		}
	}
	return i
}

// TargetEnd returns the index of the first byte at or after i that may not stand
// in a request target, or len(buf) if there is none.
func TargetEnd(buf []byte, i int) int {
	for ; i+8 <= len(buf); i += 8 {
		w := binary.LittleEndian.Uint64(buf[i:])
		hash := w ^ ones*'#'
		del := w ^ ones*0x7f
		// As in controls, but also for SP, '#' and all from 0x80 on.
		if mark := (w | (w - ones*0x21) | (hash-ones)&^hash | (del-ones)&^del) & highs; mark != 0 {
			return i + bits.TrailingZeros64(mark)>>3
		}
	}
	for i < len(buf) && Classes[buf[i]]&Target != 0 {
		i++
	}
	return i
}

// controls marks the high bit of each byte of w that is a control character.
// The lowest mark is exact: in both terms a borrow can only come from a byte
// that is marked, and spoils bytes above it.
func controls(w uint64) uint64 {
	del := w ^ ones*0x7f
	return ((w-ones*0x20)&^w | (del-ones)&^del) & highs
}

// FoldEqual reports whether s is equal to lower but for the case of letters.
// lower must consist of lower-case letters, digits and '-'; s of token characters.
func FoldEqual(s []byte, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range s {
		if s[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// EqualFold reports whether s is a token in lower case, but for the case of its letters, which
// are those of ASCII.
func EqualFold(s []byte, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i, c := range s {
		if Classes[c]&Upper != 0 {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// FoldEqualWords is FoldEqual for longer names: it compares eight bytes at a
// time, the last eight maybe once more.
func FoldEqualWords(s []byte, lower string) bool {
	n := len(s)
	if n != len(lower) || n < 8 {
		return FoldEqual(s, lower)
	}
	for i := 0; i < n-8; i += 8 {
		if foldedWord(s[i:]) != stringWord(lower[i:]) {
			return false
		}
	}
	return foldedWord(s[n-8:]) == stringWord(lower[n-8:])
}

// foldedWord loads eight token characters, letters in lower case.
func foldedWord(s []byte) uint64 { return binary.LittleEndian.Uint64(s) | ones*0x20 }

// stringWord loads eight bytes; the compiler makes one load of it.
func stringWord(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// EqualTokens is FoldEqual for two tokens of any characters and case.
func EqualTokens(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if Classes[x]&Upper != 0 {
			x |= 0x20
		}
		if Classes[y]&Upper != 0 {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// IsToken reports whether s is a non-empty token.
func IsToken(s []byte) bool {
	for _, c := range s {
		if Classes[c]&Token == 0 {
			return false
		}
	}
	return len(s) > 0
}

// TrimString is Trim for a string.
func TrimString(s string) string {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// Trim removes the optional whitespace (SP, HTAB) around s.
func Trim(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
