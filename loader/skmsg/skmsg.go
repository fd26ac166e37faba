// Package skmsg joins the proxy's connections to pods of the same node: what one end sends
// goes straight into the other's receive queue (bpf/skmsg.bpf.c says how, and for whom).
//
// It stands apart from the rest of the loader: its programs are loaded where the option asks
// for them and the kernel passes Test, and its maps are of one agent's life. Connections that
// are joined keep their programs and maps for as long as they last, whatever becomes of the
// agent; new ones go by the newest agent's.
package skmsg

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
)

// The proxy, which has no BPF code, knows the number from abi: this fails to compile if they differ.
var _ = [1]struct{}{}[skmsgKgJoinConstantKG_JOIN_PRIORITY-abi.JoinPriority]

// Window is how many bytes may lie unread past TCP in one direction of a connection.
const Window = int(skmsgKgJoinConstantKG_JOIN_WINDOW)

// PinName is the name of the pin in the folder of pins. It begins with link_, by which
// uninstalling knows it.
const PinName = "link_sockops"

// Options say whose connections are joined: those of a user, from the network namespace of
// the thread that calls Open.
type Options struct {
	UID    uint32
	Cgroup string // a cgroup v2 folder with all pods below it; "": the root of those that are mounted
	Folder string // of the pins; "": it ends with Close
}

// Programs are kg_sockops and kg_msg, attached.
type Programs struct {
	objects *objects
	link    link.Link
}

// Open loads and attaches the programs, in the place of an earlier agent's. Unless pinned they
// end with Close; connections that are joined stay so.
func Open(o Options) (_ *Programs, err error) {
	cookie, err := netnsCookie()
	if err != nil {
		return nil, err
	}
	if o.Cgroup == "" {
		if o.Cgroup, err = cgroupRoot(); err != nil {
			return nil, err
		}
	}
	p := new(Programs)
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.objects, err = load(constants{UID: o.UID, Netns: cookie}); err != nil {
		return nil, err
	}
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target:  p.objects.maps.Sockets.Map().FD(),
		Program: p.objects.programs.Msg,
		Attach:  ebpf.AttachSkMsgVerdict,
	}); err != nil {
		return nil, fmt.Errorf("attach kg_msg: %w", err)
	}
	// Last: from here on sockets are joined.
	if err := p.attach(o); err != nil {
		return nil, err
	}
	return p, nil
}

// attach attaches kg_sockops to the cgroup; over a pinned link without a gap.
func (p *Programs) attach(o Options) error {
	program := p.objects.programs.SockOps
	pin := filepath.Join(o.Folder, PinName)
	if o.Folder != "" {
		pinned, err := link.LoadPinnedLink(pin, nil)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("open pinned kg_sockops: %w", err)
		case isOf(pinned, o.Cgroup) && pinned.Update(program) == nil:
			p.link = pinned
			return nil
		default: // of another cgroup, or detached with it
			pinned.Close()
			if err := os.Remove(pin); err != nil {
				return fmt.Errorf("remove the pin of an earlier kg_sockops: %w", err)
			}
		}
	}
	var err error
	if p.link, err = link.AttachCgroup(link.CgroupOptions{Path: o.Cgroup, Attach: ebpf.AttachCGroupSockOps, Program: program}); err != nil {
		return fmt.Errorf("attach kg_sockops to %s (a cgroup v2 folder and CAP_NET_ADMIN needed): %w", o.Cgroup, err)
	}
	if o.Folder == "" {
		return nil
	}
	if err := p.link.Pin(pin); err != nil {
		return fmt.Errorf("pin kg_sockops: %w", err)
	}
	return nil
}

// Close gives up the handle. A pinned program stays attached.
func (p *Programs) Close() error {
	var err error
	if p.link != nil {
		err = p.link.Close()
	}
	if p.objects != nil {
		err = errors.Join(err, p.objects.Close())
	}
	return err
}

// Remove ends an earlier agent's program in a folder of pins: connections that come are
// plain. There may be none.
func Remove(folder string) error {
	pin := filepath.Join(folder, PinName)
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned kg_sockops: %w", err)
	}
	defer l.Close()
	if d, ok := l.(interface{ Detach() error }); ok {
		err = d.Detach()
	}
	return errors.Join(err, os.Remove(pin))
}

// isOf reports whether a link is to this cgroup.
func isOf(l link.Link, cgroup string) bool {
	info, err := l.Info()
	if err != nil || info.Cgroup() == nil {
		return false
	}
	// A cgroup's id is the inode of its folder.
	var st unix.Stat_t
	return unix.Stat(cgroup, &st) == nil && st.Ino == info.Cgroup().CgroupId
}

// cgroupRoot returns where cgroup v2 is mounted; some hosts have it beside version 1.
func cgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("look for cgroup v2: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(before); len(fields) > 4 && strings.HasPrefix(after, "cgroup2 ") {
			return fields[4], nil
		}
	}
	return "", errors.New("cgroup v2 is mounted nowhere: mount it (`mount -t cgroup2 none DIR`), or in a container the host's /sys/fs/cgroup")
}

// netnsCookie returns what names this thread's network namespace to programs.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read the network namespace's cookie (Linux >= 5.14 needed): %w", err)
	}
	return cookie, nil
}
