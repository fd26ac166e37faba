package http1

import (
	"encoding/binary"
	"math/bits"
)

// Character classes, one bit each.
const (
	classToken      = 1 << iota // tchar, RFC 9110 section 5.6.2
	classUnderscore             // '_', a token character that CGI confuses with '-'
	classTarget                 // allowed in a request target, '?' included
	classPathMark               // '%', '/' and '?': a path scan has to look closer
	classHost                   // lower-case letters, digits, '-', '.', '_', '~'
	classUpper                  // 'A' to 'Z'
	classHex                    // hexadecimal digit
	classDigit                  // decimal digit
)

// classes maps a byte to its character classes.
var classes = func() (t [256]uint8) {
	for c := byte(0x21); c < 0x7f; c++ {
		if c != '#' {
			t[c] |= classTarget
		}
		switch {
		case '0' <= c && c <= '9':
			t[c] |= classToken | classHost | classHex | classDigit
		case 'a' <= c && c <= 'z':
			t[c] |= classToken | classHost
		case 'A' <= c && c <= 'Z':
			t[c] |= classToken | classUpper
		}
		switch lower := c | 0x20; {
		case 'a' <= lower && lower <= 'f':
			t[c] |= classHex
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= classToken
	}
	for _, c := range "-._~" {
		t[c] |= classHost
	}
	for _, c := range "%/?" {
		t[c] |= classPathMark
	}
	t['_'] |= classUnderscore
	return t
}()

// hexValues maps a hexadecimal digit to its value; use it after a classHex check.
var hexValues = func() (t [256]uint8) {
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

// controlAt returns the index of the first byte at or after i that is below
// 0x20 or is 0x7f, or len(buf) if there is none. It looks at eight bytes at a
// time: in each of the two terms the lowest marked byte is exact, and marks
// caused by a borrow can only stand above it.
func controlAt(buf []byte, i int) int {
	for ; i+8 <= len(buf); i += 8 {
		w := binary.LittleEndian.Uint64(buf[i:])
		del := w ^ ones*0x7f
		if mark := ((w-ones*0x20)&^w | (del-ones)&^del) & highs; mark != 0 {
			return i + bits.TrailingZeros64(mark)>>3
		}
	}
	for ; i < len(buf); i++ {
		if c := buf[i]; c < 0x20 || c == 0x7f {
			return i
		}
	}
	return i
}

// foldEqual reports whether s is equal to lower but for the case of letters.
// lower must consist of lower-case letters, digits and '-'; s of token characters.
func foldEqual(s []byte, lower string) bool {
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

// foldEqualTokens is foldEqual for two tokens of any characters and case.
func foldEqualTokens(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if classes[x]&classUpper != 0 {
			x |= 0x20
		}
		if classes[y]&classUpper != 0 {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// isToken reports whether s is a non-empty token.
func isToken(s []byte) bool {
	for _, c := range s {
		if classes[c]&classToken == 0 {
			return false
		}
	}
	return len(s) > 0
}

// trimSpace removes the optional whitespace (SP, HTAB) around s.
func trimSpace(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
