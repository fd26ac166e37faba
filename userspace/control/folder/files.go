// Package folder is the source that reads a folder of manifests: the same objects as a
// cluster's, the same translation behind them, and EndpointSlices written by hand or by
// a program. In: files. Out: model.Update, whenever the folder changes.
package folder

import (
	"fmt"
	"os"
	"slices"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/manifest"
	"github.com/kerngate/kerngate/userspace/model"
)

// file is one manifest and what was last understood of it.
type file struct {
	raw      []byte // as last read
	stamp    stamp
	objects  []located
	problems []model.Problem
}

// located is an object and where it stands, for messages.
type located struct {
	kube.Object
	where string
}

// parse reads one file. A document, or an item of a List, that cannot be used takes nothing
// else down: the others count, and of the file's last version (which may be nil) stays
// whatever they do not replace, since nobody knows what the broken one was meant to be.
func parse(fileName string, raw []byte, last *file) *file {
	f := &file{raw: raw}
	documents, err := manifest.Split(raw)
	broken := err != nil
	if err != nil {
		f.problem(fileName, "ManifestInvalid", model.Refused, fmt.Sprintf("%s: %v", fileName, err))
	}
	for i, d := range documents {
		for _, o := range kube.DecodeAll(d.Text) {
			where := fmt.Sprintf("%s, document %d (line %d)", fileName, i+1, d.Line)
			if o.Item != "" {
				where += ", " + o.Item
			}
			if o.Err != nil {
				broken = true
				f.problem(fileName, "ManifestInvalid", model.Refused, fmt.Sprintf("%s: %s", where, d.MoveLines(o.Err.Error())))
			}
			for _, w := range o.Warnings {
				f.problem(fileName, "ManifestWarning", model.Warning, fmt.Sprintf("%s: %s", where, d.MoveLines(w)))
			}
			if o.Used {
				f.objects = append(f.objects, located{o.Object, where})
			}
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

// readFile reads a file of bounded size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return manifest.Read(path, f)
}
