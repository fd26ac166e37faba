package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/kerngate/kerngate/userspace/kube"
	"github.com/kerngate/kerngate/userspace/manifest"
	"github.com/kerngate/kerngate/userspace/model"
)

// folder is what is known of the manifests.
type folder struct {
	path    string
	options kube.Options

	files   map[string]*file
	problem *model.Problem // of the folder itself
}

// read looks at the folder again and reports whether anything has changed. emptied says
// that a file has lost its content: as likely as not somebody is about to write it.
func (f *folder) read(believeEmpty bool) (changed, emptied bool) {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		p := &model.Problem{
			Object:   model.ObjectRef{Kind: "Folder", Name: f.path},
			Severity: model.Refused,
			Reason:   "FolderUnreadable",
			Message:  err.Error() + "; what was last read stays in force",
		}
		changed = f.problem == nil || *f.problem != *p
		f.problem = p
		return changed, false
	}
	changed = f.problem != nil || f.files == nil
	f.problem = nil

	next := make(map[string]*file, len(entries))
	for _, entry := range entries {
		name := entry.Name()
		if !manifest.IsManifest(name) {
			continue
		}
		last := f.files[name]
		now, kept := f.readOne(name, last)
		if now == nil { // a folder, or gone since it was listed
			continue
		}
		if !kept && len(now.raw) == 0 && last != nil && len(last.raw) > 0 && !believeEmpty {
			emptied = true
			now, kept = last, true
		}
		changed = changed || !kept
		next[name] = now
	}
	for name := range f.files {
		changed = changed || next[name] == nil
	}
	f.files = next
	return changed, emptied
}

// readOne returns the file as it is now; kept says that it is as it was.
func (f *folder) readOne(name string, last *file) (now *file, kept bool) {
	path := filepath.Join(f.path, name)
	info, err := os.Stat(path) // of the target, if it is a link
	if err == nil && !info.Mode().IsRegular() {
		return nil, false
	}
	var raw []byte
	if err == nil {
		raw, err = readFile(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, linkErr := os.Lstat(path); linkErr != nil {
			return nil, false
		}
		err = fmt.Errorf("%s is a link to nothing", path)
		fallthrough
	case err != nil:
		now := unreadable(name, err, last)
		return now, last != nil && slices.Equal(last.problems, now.problems)
	case last != nil && last.raw != nil && bytes.Equal(raw, last.raw):
		return last, true
	}
	return parse(name, raw, last), false
}

// update translates what was read. Files count in the order of their names.
func (f *folder) update() model.Update {
	var objects kube.Objects
	var found []model.Problem
	if f.problem != nil {
		found = append(found, *f.problem)
	}
	first := map[model.ObjectRef]string{}
	place := 0
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		found = append(found, f.files[name].problems...)
		for _, o := range f.files[name].objects {
			if where, twice := first[o.Ref]; twice {
				found = append(found, model.Problem{
					Object:   o.Ref,
					Severity: model.Warning,
					Reason:   "ObjectDuplicate",
					Message:  fmt.Sprintf("%s defines it again: what stands in %s counts", o.where, where),
				})
				continue
			}
			first[o.Ref] = o.where
			place++
			o.SetAge(place)
			objects.Add(o.Object)
		}
	}
	m, problems := kube.Translate(objects, f.options)
	found = append(found, problems...)
	slices.SortFunc(found, kube.CompareProblems)
	return model.Update{Model: &m, Problems: found, Served: kube.Served(objects, f.options)}
}
