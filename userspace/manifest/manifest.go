// Package manifest cuts files of Kubernetes manifests into documents: what the agent's
// folder (userspace/control/folder) and `kerngatectl check` read alike. In: the bytes of a file, in
// UTF-8, UTF-16 or UTF-32. Out: YAML documents in UTF-8, each with the line where it begins.
package manifest

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// MaxFile is the size in bytes of the largest file that is read.
const MaxFile = 64 << 20

// IsManifest reports whether a file of this name is read from a folder. Hidden ones are
// not: editors and atomic writers use them for what is not finished.
func IsManifest(name string) bool {
	name = filepath.Base(name)
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// Read reads a file of bounded size.
func Read(name string, r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err == nil && len(raw) > MaxFile {
		err = fmt.Errorf("%s is larger than %d MiB", name, MaxFile>>20)
	}
	return raw, err
}

// Document is one YAML (or JSON) document of a file.
type Document struct {
	Text []byte // UTF-8
	Line int    // of the file where it begins, from 1
}

// Split cuts a file at its "---" lines. JSON is one document. Documents of space alone are
// left out. An error says that the file is no text.
func Split(raw []byte) ([]Document, error) {
	raw, err := utf8Of(raw)
	if err != nil {
		return nil, err
	}
	var documents []Document
	current := Document{Line: 1}
	add := func() {
		if len(bytes.TrimSpace(current.Text)) > 0 {
			documents = append(documents, current)
		}
	}
	number := 0
	for line := range bytes.Lines(raw) {
		number++
		marker := bytes.TrimRight(line, " \t\r\n")
		if bytes.Equal(marker, []byte("---")) || bytes.HasPrefix(marker, []byte("--- ")) {
			add()
			current = Document{Line: number + 1}
			continue
		}
		current.Text = append(current.Text, line...)
	}
	add()
	return documents, nil
}

// utf8Of returns the text of a file in UTF-8 without a byte order mark. UTF-16 is what
// PowerShell's > writes; without a mark it shows by the NUL beside the first character,
// which YAML and JSON begin with in ASCII.
func utf8Of(raw []byte) ([]byte, error) {
	var from encoding.Encoding
	unit := 2 // bytes
	switch {
	case bytes.HasPrefix(raw, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(raw, []byte("\x00\x00\xfe\xff")):
		from, unit = utf32.UTF32(utf32.BigEndian, utf32.ExpectBOM), 4
	case bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")):
		return raw[3:], nil
	case bytes.HasPrefix(raw, []byte("\xff\xfe")), bytes.HasPrefix(raw, []byte("\xfe\xff")):
		from = unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM)
	case len(raw) >= 2 && raw[0] != 0 && raw[1] == 0:
		from = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case len(raw) >= 2 && raw[0] == 0 && raw[1] != 0:
		from = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	default:
		return raw, nil
	}
	if len(raw)%unit != 0 {
		return nil, fmt.Errorf("the file begins as UTF-%d and ends within a character: it is cut off, or no text", 8*unit)
	}
	return from.NewDecoder().Bytes(raw)
}

var lineNumber = regexp.MustCompile(`\bline (\d+)`)

// MoveLines turns line numbers that a parser gives within a document into those of the file.
func (d Document) MoveLines(message string) string {
	return lineNumber.ReplaceAllStringFunc(message, func(m string) string {
		n, err := strconv.Atoi(m[len("line "):])
		if err != nil {
			return m
		}
		return fmt.Sprintf("line %d", n+d.Line-1)
	})
}
