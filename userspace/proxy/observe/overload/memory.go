package overload

import (
	"bytes"
	"os"
	"path"
	"strconv"
)

// Cgroup reads the use and the limit of memory of the control group (version 2) that the
// process is in, or of the one above that has the least left. What the kernel keeps of files
// and could drop does not count.
type Cgroup struct {
	root   string // where the hierarchy is mounted
	groups []string
}

// OwnCgroup finds the process's control group. Without one of version 2 there is no limit.
func OwnCgroup() *Cgroup { return newCgroup("/sys/fs/cgroup", "/proc/self/cgroup") }

func newCgroup(root, self string) *Cgroup {
	c := &Cgroup{root: root}
	text, err := os.ReadFile(self)
	if err != nil {
		return c
	}
	for line := range bytes.Lines(text) {
		name, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("0::"))
		if !ok {
			continue
		}
		for group := path.Clean("/" + string(name)); ; group = path.Dir(group) {
			c.groups = append(c.groups, path.Join(root, group))
			if group == "/" {
				break
			}
		}
	}
	return c
}

// Memory returns use and limit in bytes; no limit: 0.
func (c *Cgroup) Memory() (use, limit uint64) {
	for _, group := range c.groups {
		most, ok := number(path.Join(group, "memory.max"))
		current, known := number(path.Join(group, "memory.current"))
		if !ok || !known || most == 0 {
			continue
		}
		current -= min(current, fileCache(path.Join(group, "memory.stat")))
		if limit == 0 || float64(current)/float64(most) > float64(use)/float64(limit) {
			use, limit = current, most
		}
	}
	return use, limit
}

// number reads a file that holds a number; "max" is none.
func number(name string) (uint64, bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil
}

// fileCache returns what the kernel keeps of files: pages that were used once, and those that were
// used again, as the pages of a request body that was written to a file and read from there.
func fileCache(name string) (sum uint64) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		for _, list := range [...]string{"inactive_file ", "active_file "} {
			if value, ok := bytes.CutPrefix(line, []byte(list)); ok {
				n, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
				sum += n
			}
		}
	}
	return sum
}
