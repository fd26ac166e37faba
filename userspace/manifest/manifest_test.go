package manifest

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"
)

const two = "# übung\na: 1\n---\n\n--- # second\nb: 😀\n---\n"

// in16 is a text in UTF-16.
func in16(text string, order binary.AppendByteOrder, mark bool) []byte {
	var out []byte
	if mark {
		text = "\ufeff" + text
	}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, unit)
	}
	return out
}

// in32 is a text in UTF-32.
func in32(text string, order binary.AppendByteOrder) []byte {
	var out []byte
	for _, r := range "\ufeff" + text {
		out = order.AppendUint32(out, uint32(r))
	}
	return out
}

// TestSplit: all documents of a file are found, in each encoding, with their lines.
func TestSplit(t *testing.T) {
	for name, raw := range map[string][]byte{
		"UTF-8":                               []byte(two),
		"UTF-8 with a mark":                   []byte("\ufeff" + two),
		"CRLF":                                []byte(strings.ReplaceAll(two, "\n", "\r\n")),
		"UTF-16, little endian":               in16(two, binary.LittleEndian, true),
		"UTF-16, big endian":                  in16(two, binary.BigEndian, true),
		"UTF-16, little endian, without mark": in16(two, binary.LittleEndian, false),
		"UTF-16, big endian, without mark":    in16(two, binary.BigEndian, false),
		"UTF-32, little endian":               in32(two, binary.LittleEndian),
		"UTF-32, big endian":                  in32(two, binary.BigEndian),
	} {
		documents, err := Split(raw)
		if err != nil || len(documents) != 2 {
			t.Errorf("%s: %d documents, %v", name, len(documents), err)
			continue
		}
		for i, want := range []Document{{[]byte("# übung\na: 1"), 1}, {[]byte("b: 😀"), 6}} {
			if got := documents[i]; got.Line != want.Line || !bytes.Equal(bytes.TrimSpace(bytes.ReplaceAll(got.Text, []byte("\r"), nil)), want.Text) {
				t.Errorf("%s: document %d: line %d, %q", name, i, got.Line, got.Text)
			}
		}
	}
	for name, raw := range map[string]string{"half a character": "\xff\xfea\x00b", "half a character of UTF-32": "\xff\xfe\x00\x00a\x00\x00"} {
		if _, err := Split([]byte(raw)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if d := (Document{Line: 10}); d.MoveLines("yaml: line 3: x") != "yaml: line 12: x" {
		t.Error(d.MoveLines("yaml: line 3: x"))
	}
	for name, want := range map[string]bool{"a.yaml": true, "b/a.yml": true, "a.json": true, ".a.yaml": false, "b/.a.yaml": false, "a.txt": false} {
		if IsManifest(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}
