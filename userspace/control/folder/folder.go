package folder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/manifest"
	"github.com/kerngate/kerngate/userspace/model"
)

// folder is what is known of the manifests.
type folder struct {
	path       string
	translator *kube.Translator

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
	taken := time.Now()
	info, err := os.Stat(path) // of the target, if it is a link
	if err == nil && !info.Mode().IsRegular() {
		return nil, false
	}
	if err == nil && last != nil && last.stamp.settled(info) {
		return last, true
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
		last.stamp = newStamp(info, taken)
		return last, true
	}
	now = parse(name, raw, last)
	now.stamp = newStamp(info, taken)
	return now, false
}

// stamp shows that a file has not changed since it was read.
type stamp struct {
	inode   uint64
	size    int64
	changed time.Time // inode's time of change, which nobody can set
	taken   time.Time // before the file was looked at
}

// settle is how much older than its stamp a file's last change must be: clocks of file systems
// are coarse, and a change in the same tick could not be seen.
const settle = time.Second

func newStamp(info fs.FileInfo, taken time.Time) stamp {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}
	}
	return stamp{s.Ino, info.Size(), time.Unix(s.Ctim.Unix()), taken}
}

// settled reports whether the file is certainly as it was when the stamp was taken.
func (s stamp) settled(info fs.FileInfo) bool {
	return s.inode != 0 && s == newStamp(info, s.taken) && s.taken.Sub(s.changed) > settle
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
	f.translator.Replace(objects)
	u, _ := f.translator.Update() // what is wrong with files may be all that is new
	u.Problems = append(found, u.Problems...)
	slices.SortFunc(u.Problems, kube.CompareProblems)
	return u
}
