package attach

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/pins"
)

const (
	pinTCXIngress = "link_tcx_in_"
	pinTCXEgress  = "link_tcx_out_"
)

// tcPrograms are the programs of L4 services on the interfaces.
var tcPrograms = []string{"kg_ingress", "kg_egress", "kg_ingress_l3", "kg_egress_l3"}

// TC is kg_ingress and kg_egress on the uplinks. They are attached while there are L4
// listeners: a node without such services pays nothing for them. kg_ingress also stands where
// kg_xdp cannot be.
//
// Both come first among the programs of an interface. Many programs end the chain for what
// they let pass (TC_ACT_OK), so that ours would never see it, while ours let all others see
// what they pass on. So others see an L4 connection with its pod's address on the way in and
// with the ingress address on the way out. Somebody who comes later and puts himself first is
// left there, for two who both want to be first would take turns for ever; what is attached
// tells it.
type TC struct {
	folder          string
	interfaces      []string
	tcx             bool // the kernel has tcx; else filters of a clsact qdisc are used
	ingress, egress *ebpf.Program
	// The same for interfaces without a link layer.
	ingressL3, egressL3 *ebpf.Program
	links               map[string]link.Link // by pin
	net                 *netlink.Handle
	log                 zerolog.Logger
	attachments         []Attachment
}

// NewTC returns the programs in tc on no interface yet, for a folder of pins. tcx: the kernel has it.
func NewTC(folder string, interfaces []string, tcx bool, programs *datapath.Programs, net *netlink.Handle, log zerolog.Logger) *TC {
	return &TC{
		folder:     folder,
		interfaces: interfaces,
		tcx:        tcx,
		ingress:    programs.Ingress,
		egress:     programs.Egress,
		ingressL3:  programs.IngressL3,
		egressL3:   programs.EgressL3,
		links:      make(map[string]link.Link),
		net:        net,
		log:        log,
	}
}

// WithoutTCX has filters of a clsact qdisc used although the kernel has tcx.
func (t *TC) WithoutTCX() { t.tcx = false }

// Attachments returns where the programs stand, and where not and why.
func (t *TC) Attachments() []Attachment { return t.attachments }

// side is one of an interface's two hooks.
type side struct {
	program *ebpf.Program
	name    string
	attach  ebpf.AttachType
	parent  uint32 // of a clsact filter
	pin     string
}

// Ensure makes the programs stand on the interfaces where they are wanted, and not on the
// others. It is called again and again: interfaces come and go.
func (t *TC) Ensure(wanted func(program, name string) bool) {
	var now []Attachment
	keep := make(map[string]bool)
	for _, name := range t.interfaces {
		dev, err := t.net.LinkByName(name)
		for _, s := range t.sides(dev) {
			a := Attachment{Program: s.name, Where: name}
			switch {
			case err != nil:
				a.Reason = fmt.Sprintf("find interface: %v", err)
			case !wanted(s.name, name):
				t.remove(dev, s)
				continue
			default:
				keep[s.pin] = true
				var err error
				if a.Mode, err = t.attach(dev, s); err != nil {
					a.Reason = err.Error()
				} else if first := t.ahead(dev, s); first != "" {
					a.Reason = "behind " + first + ", which comes first and may keep packets from it"
				}
			}
			now = append(now, a)
			if !slices.Contains(t.attachments, a) {
				t.tell(a)
			}
		}
	}
	for pin := range t.links {
		if !keep[pin] { // the interface is gone
			t.drop(pin)
		}
	}
	t.attachments = now
}

// End takes the programs off all interfaces, for there is no L4 listener any more.
func (t *TC) End() {
	for _, name := range t.interfaces {
		if dev, err := t.net.LinkByName(name); err == nil {
			for _, s := range t.sides(dev) {
				t.remove(dev, s)
			}
		}
	}
	t.attachments = nil
}

func (t *TC) sides(dev netlink.Link) []side {
	index := "0"
	if dev != nil {
		index = strconv.Itoa(dev.Attrs().Index)
	}
	ingress, egress := t.ingress, t.egress
	if dev != nil && isBare(dev) {
		ingress, egress = t.ingressL3, t.egressL3
	}
	return []side{
		{ingress, "kg_ingress", ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS, filepath.Join(t.folder, pinTCXIngress+index)},
		{egress, "kg_egress", ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS, filepath.Join(t.folder, pinTCXEgress+index)},
	}
}

// bareTypes are the kinds of interfaces on which packets begin with their IP header: tun and WireGuard,
// ipip, IPv6 in IPv6, sit, GRE by IPv4 and by IPv6 (unknown to the library), PPP, cellular modems.
var bareTypes = []string{"none", "ipip", "tunnel6", "sit", "gre", "unknown823", "ppp", "unknown519"}

// isBare reports whether packets on an interface begin with their IP header.
func isBare(dev netlink.Link) bool {
	return slices.Contains(bareTypes, dev.Attrs().EncapType)
}

func (t *TC) tell(a Attachment) {
	event := t.log.Info()
	if a.Reason != "" {
		event = t.log.Warn()
	}
	event.Str("interface", a.Where).Str("mode", a.Mode).Str("reason", a.Reason).Msg(a.Program)
}

// Attach makes the program of a side the only one of ours there.
func (t *TC) attach(dev netlink.Link, s side) (mode string, err error) {
	if !t.tcx {
		return "clsact", t.attachFilter(dev, s)
	}
	if l := t.links[s.pin]; l != nil {
		if info, err := l.Info(); err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == dev.Attrs().Index {
			return "tcx", nil
		}
		t.drop(s.pin)
	}
	l, pinned, err := t.adopt(dev, s)
	if err != nil {
		return "", err
	}
	if pinned { // and stays so: without a pin it would end with us
		t.links[s.pin] = l
		return "tcx", nil
	}
	if l == nil {
		l, err = link.AttachTCX(link.TCXOptions{Interface: dev.Attrs().Index, Program: s.program, Attach: s.attach, Anchor: link.Head()})
		if err != nil {
			return "", fmt.Errorf("attach %s: %w", s.name, err)
		}
	}
	if err := errors.Join(pins.Remove(s.pin), l.Pin(s.pin)); err != nil {
		l.Close()
		return "", fmt.Errorf("pin %s: %w", s.name, err)
	}
	t.links[s.pin] = l
	return "tcx", nil
}

// adopt returns the link of an earlier agent on a side, with the program replaced by ours,
// or nil if there is none, and whether it is pinned where it should be. It asks the interface
// and not the pins, which may be lost; more than one would translate twice.
func (t *TC) adopt(dev netlink.Link, s side) (l link.Link, pinned bool, err error) {
	found, err := tcxLinks(dev, s.attach)
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	for _, other := range found[1:] {
		if err := detach(other); err != nil {
			t.log.Warn().Err(err).Str("interface", dev.Attrs().Name).Msgf("cannot detach a duplicate %s", s.name)
		}
		other.Close()
	}
	l = found[0]
	if atPin, err := link.LoadPinnedLink(s.pin, nil); err == nil {
		a, errA := l.Info()
		b, errB := atPin.Info()
		pinned = errA == nil && errB == nil && a.ID == b.ID
		atPin.Close()
	}
	if err := l.Update(s.program); err != nil {
		l.Close()
		return nil, false, fmt.Errorf("update %s: %w", s.name, err)
	}
	return l, pinned, nil
}

// ahead says which program of somebody else comes before that of a side, "" if none does.
func (t *TC) ahead(dev netlink.Link, s side) string {
	if !t.tcx {
		return filterAhead(t.net, dev, s.parent)
	}
	q, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: s.attach})
	if err != nil || len(q.Programs) == 0 {
		return ""
	}
	name, _, err := DescribeProgram(q.Programs[0].ID)
	if err != nil || slices.Contains(tcPrograms, name) {
		return ""
	}
	return fmt.Sprintf("program %q (id %d) of somebody else", name, q.Programs[0].ID)
}

// tcxLinks returns the links by which programs of ours are on one side of an interface.
func tcxLinks(dev netlink.Link, side ebpf.AttachType) ([]link.Link, error) {
	q, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: side})
	if err != nil {
		return nil, fmt.Errorf("ask which tcx programs %s has: %w", dev.Attrs().Name, err)
	}
	var found []link.Link
	for _, p := range q.Programs {
		name, _, err := DescribeProgram(p.ID)
		id, ok := p.LinkID()
		if err != nil || !ok || !slices.Contains(tcPrograms, name) {
			continue
		}
		if l, err := link.NewFromID(id); err == nil {
			found = append(found, l)
		}
	}
	return found, nil
}

// Where our filters stand among others of a clsact qdisc. Of programs with one priority the
// newest comes first; filters of other kinds can have that priority for themselves.
const (
	filterFirst  = 1
	filterSecond = 2
	filterHandle = 0x4b47 // "KG"
)

func FilterOn(dev netlink.Link, parent uint32, priority uint16) netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: dev.Attrs().Index, Parent: parent, Handle: filterHandle,
		Protocol: unix.ETH_P_ALL, Priority: priority,
	}
}

// attachFilter is attach for kernels before 6.6.
func (t *TC) attachFilter(dev netlink.Link, s side) error {
	err := t.net.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: dev.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact qdisc (module sch_ingress needed): %w", err)
	}
	where := []netlink.FilterAttrs{FilterOn(dev, s.parent, filterFirst), FilterOn(dev, s.parent, filterSecond)}
	if have, err := ourFilter(t.net, dev, s.parent); err == nil && have != nil {
		if info, err := s.program.Info(); err == nil {
			if id, ok := info.ID(); ok && have.Id == int(id) {
				return nil
			}
		}
		where = []netlink.FilterAttrs{have.FilterAttrs}
	}
	for _, at := range where {
		err = t.net.FilterReplace(&netlink.BpfFilter{FilterAttrs: at, Fd: s.program.FD(), Name: s.name, DirectAction: true})
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("attach %s as a filter (module cls_bpf needed): %w", s.name, err)
}

// filterAhead says which filter comes before ours, "" if none does.
func filterAhead(h *netlink.Handle, dev netlink.Link, parent uint32) string {
	filters, err := h.FilterList(dev, parent)
	if err != nil || len(filters) == 0 {
		return ""
	}
	// As the kernel lists them, it runs them.
	f, isBPF := filters[0].(*netlink.BpfFilter)
	switch {
	case !isBPF:
		return fmt.Sprintf("a filter of somebody else (%s, priority %d)", filters[0].Type(), filters[0].Attrs().Priority)
	case slices.Contains(tcPrograms, f.Name):
		return ""
	}
	return fmt.Sprintf("filter %q (priority %d) of somebody else", f.Name, f.Priority)
}

// ourFilter returns our filter on one side of an interface, nil if there is none.
func ourFilter(h *netlink.Handle, dev netlink.Link, parent uint32) (*netlink.BpfFilter, error) {
	filters, err := h.FilterList(dev, parent)
	if err != nil {
		return nil, err
	}
	for _, f := range filters {
		if f, ok := f.(*netlink.BpfFilter); ok && slices.Contains(tcPrograms, f.Name) {
			return f, nil
		}
	}
	return nil, nil
}

// Remove takes the program of a side off an interface.
func (t *TC) remove(dev netlink.Link, s side) {
	if err := removeTC(t.net, dev, s.attach, s.parent, t.tcx); err != nil {
		t.log.Warn().Err(err).Str("interface", dev.Attrs().Name).Msgf("cannot detach %s", s.name)
	}
	t.drop(s.pin)
}

// removeTC takes programs of ours off one side of an interface, whoever attached them.
func removeTC(h *netlink.Handle, dev netlink.Link, attach ebpf.AttachType, parent uint32, tcx bool) error {
	var errs []error
	if tcx {
		found, err := tcxLinks(dev, attach)
		errs = append(errs, err)
		for _, l := range found {
			errs = append(errs, detach(l))
			l.Close()
		}
	}
	if f, err := ourFilter(h, dev, parent); err == nil && f != nil {
		errs = append(errs, h.FilterDel(f))
	}
	return errors.Join(errs...)
}

// drop forgets a link and its pin.
func (t *TC) drop(pin string) {
	if l := t.links[pin]; l != nil {
		l.Close()
		delete(t.links, pin)
	}
	if err := pins.Remove(pin); err != nil {
		t.log.Warn().Err(err).Str("pin", pin).Msg("cannot remove a pin")
	}
}

func (t *TC) Close() {
	for _, l := range t.links {
		l.Close()
	}
}

// HasIngress reports whether a kg_ingress is on an interface, whoever attached it.
func HasIngress(h *netlink.Handle, dev netlink.Link) bool {
	links, _ := tcxLinks(dev, ebpf.AttachTCXIngress) // before 6.6 there are none
	for _, l := range links {
		l.Close()
	}
	filter, _ := ourFilter(h, dev, netlink.HANDLE_MIN_INGRESS)
	return len(links) > 0 || filter != nil
}
