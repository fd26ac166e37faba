// Package files is the source that reads a folder of manifests: the same objects as a
// cluster's, the same translation behind them, and EndpointSlices written by hand or by
// a program. In: files. Out: model.Update, whenever the folder changes.
package files

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kerngate/kerngate/userspace/kube"
	"github.com/kerngate/kerngate/userspace/model"
)

// maxFile is the size in bytes of the largest file that is read.
const maxFile = 64 << 20

// file is one manifest and what was last understood of it.
type file struct {
	raw      []byte // as last read
	objects  []located
	problems []model.Problem
}

// located is an object and where it stands, for messages.
type located struct {
	kube.Object
	where string
}

// isManifest reports whether a name in the folder is read. Hidden ones are not: editors
// and atomic writers use them for what is not finished.
func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// parse reads one file. A document that cannot be used takes nothing else down: the
// others count, and of the file's last version (which may be nil) stays whatever they do
// not replace, since nobody knows what the broken one was meant to be.
func parse(fileName string, raw []byte, last *file) *file {
	f := &file{raw: raw}
	broken := false
	for i, d := range split(raw) {
		where := fmt.Sprintf("%s, document %d (line %d)", fileName, i+1, d.line)
		objects, warnings, err := kube.Decode(d.text)
		if err != nil {
			broken = true
			f.problem(fileName, "ManifestInvalid", model.Refused, fmt.Sprintf("%s: %s", where, moveLines(err.Error(), d.line-1)))
			continue
		}
		for _, w := range warnings {
			f.problem(fileName, "ManifestWarning", model.Warning, fmt.Sprintf("%s: %s", where, moveLines(w, d.line-1)))
		}
		for _, o := range objects {
			f.objects = append(f.objects, located{o, where})
		}
	}
	if broken && last != nil {
		for _, o := range last.objects {
			if !slices.ContainsFunc(f.objects, func(have located) bool { return have.Ref == o.Ref }) {
				f.objects = append(f.objects, o)
			}
		}
	}
	return f
}

// unreadable keeps what was known of a file that cannot be read at the moment.
func unreadable(fileName string, err error, last *file) *file {
	f := &file{}
	if last != nil {
		f.objects = last.objects
	}
	f.problem(fileName, "ManifestUnreadable", model.Refused, err.Error()+"; what was last read of it stays in force")
	return f
}

func (f *file) problem(fileName, reason string, severity model.Severity, message string) {
	f.problems = append(f.problems, model.Problem{
		Object:   model.ObjectRef{Kind: "File", Name: fileName},
		Severity: severity,
		Reason:   reason,
		Message:  message,
	})
}

// document is one YAML document and the line of the file where it begins.
type document struct {
	text []byte
	line int
}

// split cuts a file at its "---" lines. JSON is one document.
func split(raw []byte) []document {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	var documents []document
	current := document{line: 1}
	add := func() {
		if len(bytes.TrimSpace(current.text)) > 0 {
			documents = append(documents, current)
		}
	}
	number := 0
	for line := range bytes.Lines(raw) {
		number++
		marker := bytes.TrimRight(line, " \t\r\n")
		if bytes.Equal(marker, []byte("---")) || bytes.HasPrefix(marker, []byte("--- ")) {
			add()
			current = document{line: number + 1}
			continue
		}
		current.text = append(current.text, line...)
	}
	add()
	return documents
}

var lineNumber = regexp.MustCompile(`\bline (\d+)`)

// moveLines turns line numbers of a document into those of its file.
func moveLines(message string, by int) string {
	return lineNumber.ReplaceAllStringFunc(message, func(m string) string {
		n, err := strconv.Atoi(m[len("line "):])
		if err != nil {
			return m
		}
		return fmt.Sprintf("line %d", n+by)
	})
}

// readFile reads a file of bounded size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxFile>>20)
	}
	return raw, err
}
