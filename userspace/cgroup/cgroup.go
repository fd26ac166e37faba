// Package cgroup reads how much memory the process may use, and has Go's runtime keep within it.
package cgroup

import (
	"bytes"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Group reads the use and the limit of memory of the control group that the process is in, or of the
// one above that has the least left. What the kernel keeps of files and could drop does not
// count.
type Group struct {
	root   string // where the hierarchies are mounted
	groups []string
	files  files
}

// files are the names of what is read, which differ by version.
type files struct{ max, current, inactive, active string }

var (
	second = files{"memory.max", "memory.current", "inactive_file ", "active_file "}
	first  = files{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ", "total_active_file "}
)

// Own finds the process's control group: one of version 2, or, if that has no memory controller, of
// version 1.
func Own() *Group { return newGroup("/sys/fs/cgroup", "/proc/self/cgroup") }

func newGroup(root, self string) *Group {
	c := &Group{root: root, files: second}
	text, err := os.ReadFile(self)
	if err != nil {
		return c
	}
	for line := range bytes.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch controllers := strings.Split(fields[1], ","); {
		case slices.Contains(controllers, "memory"):
			c.files, c.groups = first, above(path.Join(root, "memory"), fields[2])
			return c // a hierarchy of version 2 beside it has no memory controller
		case fields[0] == "0":
			c.groups = above(root, fields[2])
		}
	}
	return c
}

// above returns the folders of a group and of those above it. In a container those of version 1 may
// not exist except for the last, which is the container's own.
func above(root, group string) (folders []string) {
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		folders = append(folders, path.Join(root, group))
		if group == "/" {
			return folders
		}
	}
}

// Limit returns the lowest limit in bytes; none: 0.
func (c *Group) Limit() (limit uint64) {
	for _, group := range c.groups {
		if most, ok := c.limitOf(group); ok && (limit == 0 || most < limit) {
			limit = most
		}
	}
	return limit
}

// unlimited is above what any machine has: version 1 writes the largest number of pages.
const unlimited = 1 << 60

func (c *Group) limitOf(group string) (uint64, bool) {
	most, ok := number(path.Join(group, c.files.max))
	return most, ok && most > 0 && most < unlimited
}

// LimitGo has Go's collector keep the process below a share of the limit, and returns that, in bytes.
// It returns 0, and does nothing, if there is no limit or GOMEMLIMIT is in the environment.
func (c *Group) LimitGo(share float64) int64 {
	limit := c.Limit()
	if limit == 0 || os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	most := int64(float64(limit) * share)
	debug.SetMemoryLimit(most)
	return most
}

// Memory returns use and limit in bytes; no limit: 0.
func (c *Group) Memory() (use, limit uint64) {
	for _, group := range c.groups {
		most, ok := c.limitOf(group)
		current, known := number(path.Join(group, c.files.current))
		if !ok || !known {
			continue
		}
		current -= min(current, c.fileCache(path.Join(group, "memory.stat")))
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
func (c *Group) fileCache(name string) (sum uint64) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		for _, list := range [...]string{c.files.inactive, c.files.active} {
			if value, ok := bytes.CutPrefix(line, []byte(list)); ok {
				n, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
				sum += n
			}
		}
	}
	return sum
}
