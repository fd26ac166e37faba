// Package attach has programs run: in XDP and tc on interfaces, at the sockets of a network namespace,
// and has packets to ingress addresses come there (routes). It finds again what an earlier agent left,
// and leaves what others attached alone. What the programs do is not its business.
package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/pins"
)

// XDPMode says how kg_xdp is attached to the interfaces.
type XDPMode string

const (
	XDPAuto    XDPMode = "auto"    // in the driver, else generic; not on virtual cables
	XDPNative  XDPMode = "native"  // in the driver or not at all
	XDPGeneric XDPMode = "generic" // behind the driver: slower, works everywhere
	XDPOff     XDPMode = "off"
)

// L4Hook says where packets to L4 listeners get their backend's address.
type L4Hook string

const (
	// L4Auto: in XDP, where that is in the driver of a real device; else in tc. Behind the
	// driver XDP is no faster than tc and cannot know whether a packet's checksum is whole.
	L4Auto L4Hook = "auto"
	L4XDP  L4Hook = "xdp" // in XDP wherever it is attached: checksums must be whole
	L4TC   L4Hook = "tc"
)

// Attachment is one program on one hook, or why it is not there.
type Attachment struct {
	Program string // kg_lookup, kg_xdp, kg_xdp_guard, kg_ingress, kg_egress
	Where   string // "netns", or the interface
	Mode    string // XDP: "native" or "generic"; tc: "tcx" or "clsact"; "" if not attached
	Reason  string // why it is not attached, or not in the better mode
}

// XDP is kg_xdp on the interfaces of one network namespace.
type XDP struct {
	folder string
	mode   XDPMode
	l4     L4Hook
	full   *ebpf.Program        // kg_xdp
	guard  *ebpf.Program        // kg_xdp_guard
	links  map[string]link.Link // by interface
	left   map[string]bool      // interfaces that are left to kg_ingress
	lacks  map[string]refused   // interfaces that cannot or shall not have it
	bpffs  string
	net    *netlink.Handle
	log    zerolog.Logger
}

// NewXDP returns kg_xdp on no interface yet, for a folder of pins.
func NewXDP(folder string, mode XDPMode, l4 L4Hook, programs *datapath.Programs, net *netlink.Handle, log zerolog.Logger) *XDP {
	return &XDP{
		folder: folder,
		mode:   mode,
		l4:     l4,
		full:   programs.XDP,
		guard:  programs.Guard,
		links:  make(map[string]link.Link),
		left:   make(map[string]bool),
		lacks:  make(map[string]refused),
		bpffs:  folder,
		net:    net,
		log:    log,
	}
}

// Lacks reports whether there is an interface that should have kg_xdp, and cannot.
func (x *XDP) Lacks() bool { return len(x.lacks) > 0 }

// refused is why an interface that is there has no kg_xdp.
type refused struct {
	by     ebpf.ProgramID // of somebody else; 0: for another reason
	reason string
}

// leftToIngress says why kg_xdp is not on an interface where kg_ingress does its work. Behind
// the driver it would save nothing, and since 6.9 the kernel hands tc packets without their
// Ethernet header when it had to copy them for XDP there.
const leftToIngress = "left to kg_ingress, which does the same: the driver does not take XDP programs"

// LeftOnCable says why kg_xdp is not on a virtual cable, unless it is asked for. A packet there
// is a socket buffer before XDP sees it, so that dropping it early saves nothing; and where a
// veth has XDP, the kernel has the other end cut large segments into packets, which costs bulk
// several times as much (docs/benchmark-l4.md).
const LeftOnCable = "left to kg_ingress, which does the same: on a virtual cable XDP saves nothing and slows large transfers; " +
	"--xdp-mode native has it nevertheless"

// leftBare says why kg_xdp is not on an interface without a link layer.
const leftBare = "left to kg_ingress, which does the same: packets of this interface have no Ethernet header, as XDP programs want it"

// leavesCable reports whether a device is a virtual cable that kg_ingress gets.
func (x *XDP) leavesCable(dev netlink.Link) bool {
	return x.mode == XDPAuto && x.l4 != L4XDP && !wholeChecksums(dev)
}

// ClearCables takes kg_xdp off virtual cables where an agent that was told to had put it.
func (x *XDP) ClearCables() {
	for name, lacks := range x.lacks {
		if lacks.reason != LeftOnCable && lacks.reason != leftBare {
			continue
		}
		if dev, err := x.net.LinkByName(name); err == nil {
			if err := removeLink(x.pin(dev)); err != nil {
				x.log.Warn().Err(err).Str("interface", name).Msg("cannot detach kg_xdp")
			}
		}
	}
}

// Leave takes kg_xdp off interfaces where it is behind the driver, which kg_ingress gets
// unless kg_xdp forwards all by itself. It changes attachments in place.
func (x *XDP) Leave(attachments []Attachment, forwards func(name string) bool) {
	for i, a := range attachments {
		if !slices.Contains(datapath.XDPPrograms, a.Program) || a.Mode != string(XDPGeneric) || forwards(a.Where) {
			continue
		}
		if dev, err := x.net.LinkByName(a.Where); err == nil {
			if err := removeLink(x.pin(dev)); err != nil {
				x.log.Warn().Err(err).Str("interface", a.Where).Msg("cannot detach kg_xdp")
				continue
			}
		}
		if l := x.links[a.Where]; l != nil {
			l.Close()
			delete(x.links, a.Where)
		}
		x.left[a.Where] = true
		attachments[i].Mode, attachments[i].Reason = "", leftToIngress
		x.tell(attachments[i])
	}
}

// TakeBack makes the next refresh attach to interfaces that were left to kg_ingress.
func (x *XDP) TakeBack() { clear(x.left) }

// Attach puts kg_xdp on the interfaces, and takes it off those that earlier ones had. An
// interface where that is not possible does not keep it off the others.
func (x *XDP) Attach(interfaces []string) []Attachment {
	keep := make(map[string]bool)
	var out []Attachment
	for _, name := range interfaces {
		a, dev := x.attachByName(name)
		if dev != nil {
			keep[x.pin(dev)] = true
		}
		x.tell(a)
		out = append(out, a)
	}
	x.removeOthers(keep)
	return out
}

// attachByName attaches to one interface, and returns it if it exists and is wanted.
func (x *XDP) attachByName(name string) (a Attachment, dev netlink.Link) {
	a = Attachment{Program: "kg_xdp", Where: name}
	if x.mode == XDPOff {
		a.Reason = "switched off"
		return a, nil
	}
	dev, err := x.net.LinkByName(name)
	if err != nil {
		a.Reason = fmt.Sprintf("find interface: %v", err)
		return a, nil
	}
	switch {
	case isBare(dev):
		err = errors.New(leftBare)
	case x.leavesCable(dev):
		err = errors.New(LeftOnCable)
	default:
		err = x.attachTo(dev, &a)
	}
	if err != nil {
		a.Reason = err.Error()
	}
	switch {
	case err == nil, x.left[name]:
		delete(x.lacks, name)
	case x.lacks[name].reason != a.Reason:
		x.lacks[name] = refused{reason: a.Reason}
	}
	return a, dev
}

// IsLacking reports whether an interface that is there cannot have kg_xdp, or is better off
// without, so that kg_ingress must do its work.
func (x *XDP) IsLacking(name string) bool {
	_, lacks := x.lacks[name]
	return lacks
}

func (x *XDP) tell(a Attachment) {
	event := x.log.Info()
	if a.Reason != "" && a.Reason != LeftOnCable && a.Reason != leftBare && x.mode != XDPOff {
		event = x.log.Warn()
	}
	event.Str("interface", a.Where).Str("mode", a.Mode).Str("reason", a.Reason).Msg(a.Program)
}

// refresh attaches to interfaces that have come, or come again under another index, since
// the last time. It changes attachments in place.
func (x *XDP) Refresh(attachments []Attachment) {
	for i, a := range attachments {
		if !slices.Contains(datapath.XDPPrograms, a.Program) || x.mode == XDPOff || x.left[a.Where] {
			continue
		}
		dev, err := x.net.LinkByName(a.Where)
		if err == nil && x.isOn(dev) {
			continue
		}
		if err != nil {
			delete(x.lacks, a.Where)
		}
		now, _ := x.attachByName(a.Where)
		if now != a {
			x.tell(now)
		}
		attachments[i] = now
	}
}

// isOn reports whether our link to the interface is to this incarnation of it.
func (x *XDP) isOn(dev netlink.Link) bool {
	l := x.links[dev.Attrs().Name]
	if l == nil {
		return false
	}
	info, err := l.Info()
	return err == nil && info.XDP() != nil && int(info.XDP().Ifindex) == dev.Attrs().Index
}

func (x *XDP) pin(dev netlink.Link) string {
	return filepath.Join(x.folder, pins.XDP+strconv.Itoa(dev.Attrs().Index))
}

// attachTo makes program the one on dev, replacing an earlier one of ours in place.
func (x *XDP) attachTo(dev netlink.Link, a *Attachment) error {
	name := dev.Attrs().Name
	l, err := x.existing(dev)
	if err != nil {
		return err
	}
	if l != nil && x.suits(dev) {
		a.Mode = attachedMode(dev)
		if err := l.Update(x.program(dev, a)); err != nil {
			a.Mode = ""
			l.Close()
			return fmt.Errorf("update kg_xdp: %w", err)
		}
		x.hold(name, l)
		return nil
	}
	if l != nil { // in another mode than asked for: the kernel can only do that anew
		detach(l)
		l.Close()
		if err := pins.Remove(x.pin(dev)); err != nil {
			return err
		}
	}
	if l, err = x.attachNew(dev, a); err != nil {
		return err
	}
	if err := pins.Remove(x.pin(dev)); err != nil {
		l.Close()
		return err
	}
	if err := l.Pin(x.pin(dev)); err != nil {
		l.Close()
		a.Mode = ""
		return fmt.Errorf("pin kg_xdp: %w", err)
	}
	x.hold(name, l)
	return nil
}

func (x *XDP) hold(name string, l link.Link) {
	if old := x.links[name]; old != nil {
		old.Close()
	}
	x.links[name] = l
}

// existing returns the link by which a kg_xdp is on dev already, nil if nothing is there,
// or an error that names the program of somebody else.
func (x *XDP) existing(dev netlink.Link) (link.Link, error) {
	state := dev.Attrs().Xdp
	if state == nil || !state.Attached || state.ProgId == 0 {
		return nil, nil
	}
	id := ebpf.ProgramID(state.ProgId)
	if pinned, err := link.LoadPinnedLink(x.pin(dev), nil); err == nil {
		if info, err := pinned.Info(); err == nil && info.Program == id {
			return pinned, nil
		}
		pinned.Close()
	}
	name, _, err := DescribeProgram(id)
	if err == nil && slices.Contains(datapath.XDPPrograms, name) { // ours, but the pin is lost
		if l, err := x.findAgain(dev, id); l != nil || err != nil {
			return l, err
		}
	}
	return nil, x.foreign(dev, id)
}

// findAgain returns the link of a program of ours, pinned anew, nil if there is none.
func (x *XDP) findAgain(dev netlink.Link, id ebpf.ProgramID) (l link.Link, err error) {
	found, err := findLinks(link.XDPType, datapath.XDPPrograms...)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.program == id && int(f.ifindex) == dev.Attrs().Index && l == nil {
			l = f.Link
			continue
		}
		f.Close()
	}
	if l == nil {
		return nil, nil
	}
	if err := errors.Join(pins.Remove(x.pin(dev)), l.Pin(x.pin(dev))); err != nil {
		l.Close()
		return nil, fmt.Errorf("pin kg_xdp again: %w", err)
	}
	return l, nil
}

// foreign returns the error that names the program of somebody else on an interface. Whose
// it is, is looked up once.
func (x *XDP) foreign(dev netlink.Link, id ebpf.ProgramID) error {
	name := dev.Attrs().Name
	if known := x.lacks[name]; known.by != id {
		reason := owner(id, x.bpffs) + ", is attached, and an interface takes one XDP program: kg_ingress does the work behind it. " +
			"To have kg_xdp here, take that program off (`ip link set dev " + name + " xdp off`, or by its owner's means); to have neither, --xdp-mode off"
		x.lacks[name] = refused{id, reason}
	}
	return errors.New(x.lacks[name].reason)
}

// suits reports whether the mode in which something is attached is one we were asked for.
func (x *XDP) suits(dev netlink.Link) bool {
	return x.mode == XDPAuto || string(x.mode) == attachedMode(dev)
}

// attachedMode returns the mode of what is attached to dev.
func attachedMode(dev netlink.Link) string {
	if x := dev.Attrs().Xdp; x != nil && x.AttachMode == xdpAttachedSKB {
		return string(XDPGeneric)
	}
	return string(XDPNative)
}

// xdpAttachedSKB is from linux/if_link.h; no package exports it.
const xdpAttachedSKB = 2

// attachNew attaches the program in the driver, or behind it where that fails and is
// allowed.
func (x *XDP) attachNew(dev netlink.Link, a *Attachment) (link.Link, error) {
	opts := link.XDPOptions{Interface: dev.Attrs().Index, Flags: link.XDPDriverMode}
	if x.mode != XDPGeneric {
		a.Mode = string(XDPNative)
		opts.Program = x.program(dev, a)
		l, err := link.AttachXDP(opts)
		if err == nil {
			return l, nil
		}
		a.Mode = ""
		if x.mode == XDPNative {
			return nil, fmt.Errorf("the driver does not take XDP programs: %w; use --xdp-mode auto or generic", err)
		}
		a.Reason = fmt.Sprintf("generic, because native failed: %v", unwrapErrno(err))
	}
	a.Mode = string(XDPGeneric)
	if x.program(dev, a); a.Program == "kg_xdp_guard" && HasIngress(x.net, dev) { // an earlier agent's
		x.left[dev.Attrs().Name] = true
		a.Mode = ""
		return nil, errors.New(leftToIngress)
	}
	opts.Program, opts.Flags = x.program(dev, a), link.XDPGenericMode
	l, err := link.AttachXDP(opts)
	if err != nil {
		a.Mode = ""
		return nil, fmt.Errorf("attach kg_xdp: %w", err)
	}
	return l, nil
}

// program returns the form of kg_xdp for a device in the mode of a, and names it there.
func (x *XDP) program(dev netlink.Link, a *Attachment) *ebpf.Program {
	if x.l4 == L4XDP || x.l4 == L4Auto && a.Mode == string(XDPNative) && wholeChecksums(dev) {
		a.Program = "kg_xdp"
		return x.full
	}
	a.Program = "kg_xdp_guard"
	return x.guard
}

// wholeChecksums reports whether packets have finished checksums when a driver hands them
// to XDP. Those of virtual cables come from this machine's own stack, which leaves the sum
// to hardware that never sees them.
func wholeChecksums(dev netlink.Link) bool {
	return !slices.Contains([]string{"veth", "netkit", "tuntap", "tun"}, dev.Type())
}

// unwrapErrno returns the system call's own error, where there is one.
func unwrapErrno(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// removeOthers takes kg_xdp off the interfaces whose pins are not to be kept.
func (x *XDP) removeOthers(keep map[string]bool) {
	pins, err := xdpPins(x.folder)
	if err != nil {
		x.log.Warn().Err(err).Msg("cannot list the pins of kg_xdp")
	}
	for _, pin := range pins {
		if keep[pin] {
			continue
		}
		if err := removeLink(pin); err != nil {
			x.log.Warn().Err(err).Str("pin", pin).Msg("cannot detach kg_xdp from an interface that is no longer ours")
		}
	}
}

// xdpPins returns the pins of kg_xdp's links.
func xdpPins(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), pins.XDP) {
			found = append(found, filepath.Join(folder, e.Name()))
		}
	}
	return found, err
}

// removeLink detaches a pinned link and removes the pin.
func removeLink(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		// Whoever else holds it: it shall be off. One whose interface is gone already
		// is detached already.
		if err := detach(l); err != nil && !errors.Is(err, unix.ENOLINK) {
			l.Close()
			return fmt.Errorf("detach %s: %w", pin, err)
		}
		l.Close()
	}
	return pins.Remove(pin)
}

func (x *XDP) Close() {
	for _, l := range x.links {
		l.Close()
	}
}
