//go:build linux

// Package lab builds small data centres out of Linux network namespaces: a client, nodes
// and pods, joined by veth pairs and bridges, with IPv4 and IPv6. Nothing in them touches
// the machine's own network, so that tests, the demo and the benchmark can run anywhere
// that root can, with nothing installed.
//
//	lab, err := lab.New(lab.Options{Nodes: 2})
//	defer lab.Close()
//	pod, err := lab.Nodes[0].AddPod("intro-1")
//	web, err := pod.Start(lab.Command{Path: podBinary})
//	conn, err := lab.Client.Dial(ctx, "tcp", "203.0.113.10:80")
//
// One goroutine adds hosts; their methods may be called from several. Everything that a lab makes is found by its name, kgt-ID-HOST, and removed by Close. A lab
// whose process died is removed by the next New (see Sweep).
//
// The package knows nothing of package testing, because the demo and the benchmark use it
// as well.
package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// root holds a folder per lab: its lock, logs, sockets and mounts.
const root = "/run/kgt"

// Lab is one topology.
type Lab struct {
	Name   string // kgt-ID, the prefix of every namespace's name
	Dir    string // for files of this lab; readable by any user, removed by Close
	Client *Host
	Nodes  []*Node
	VIP4   Address // published ingress address, routed to Nodes[0] at first
	VIP6   Address // zero without IPv6

	clients int // that AddClient has added
	lock    *os.File
	mu      sync.Mutex
	hosts   []*Host // in order of creation
}

// Missing reports what this machine lacks for running labs, in words for a skip message;
// "" if nothing.
func Missing() string {
	if os.Geteuid() != 0 {
		return "root (network namespaces and BPF need it)"
	}
	for _, file := range []string{"/proc/self/ns/net", "/proc/self/ns/mnt"} {
		if _, err := os.Stat(file); err != nil {
			return "kernel support for namespaces (" + file + ")"
		}
	}
	return ""
}

// New builds a topology. What it made is removed again if it fails.
func New(o Options) (_ *Lab, err error) {
	if missing := Missing(); missing != "" {
		return nil, fmt.Errorf("a lab needs %s", missing)
	}
	if err := Sweep(); err != nil {
		return nil, fmt.Errorf("remove labs of former runs: %w", err)
	}
	l, err := claim()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if err := l.build(o); err != nil {
		return nil, fmt.Errorf("build lab %s: %w", l.Name, err)
	}
	return l, nil
}

// claim takes a free name and locks its folder for as long as this process lives.
func claim() (*Lab, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	for i := 0; ; i++ {
		id := strconv.FormatInt(int64(os.Getpid()), 36)
		if i > 0 {
			id += "." + strconv.Itoa(i)
		}
		dir := filepath.Join(root, id)
		if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		lock, err := lockDir(dir)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		return &Lab{Name: "kgt-" + id, Dir: dir, lock: lock}, nil
	}
}

// lockDir takes the lock that says that a lab is alive. The kernel lets go of it when the
// process ends, however it ends. It returns EWOULDBLOCK if another process has it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close ends every process of the lab, including those that its processes left behind,
// and removes namespaces, mounts and files. It is safe to call twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	hosts := slices.Clone(l.hosts)
	l.hosts = nil
	l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	for _, h := range hosts {
		h.killStarted()
	}
	err := remove(l.Name, l.Dir)
	for _, h := range hosts {
		h.release()
	}
	l.lock.Close()
	l.lock = nil
	return err
}

// host returns the host with that short name, nil if there is none.
func (l *Lab) host(name string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Leftovers lists what a lab of this name still has: namespaces, processes, mounts, files.
// It is empty after Close.
func Leftovers(name string) ([]string, error) {
	var left []string
	spaces, err := namespaces(name)
	if err != nil {
		return nil, err
	}
	for _, space := range spaces {
		left = append(left, "network namespace "+space)
	}
	dir := filepath.Join(root, name[len("kgt-"):])
	mounts, err := mountsBelow(dir)
	if err != nil {
		return nil, err
	}
	for _, mount := range mounts {
		left = append(left, "mount "+mount)
	}
	if _, err := os.Stat(dir); err == nil {
		left = append(left, "folder "+dir)
	}
	return left, nil
}

// waitGone waits until the process has ended (as a zombie, too).
func waitGone(pid int, limit time.Duration) error {
	return Until(limit, fmt.Sprintf("end of process %d", pid), func() error {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		if state, err := processState(pid); err != nil || state == 'Z' {
			return nil
		}
		return errors.New("still runs")
	})
}
