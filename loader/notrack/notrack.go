// Package notrack keeps connections to the ingress addresses out of the kernel's connection
// tracking: a busy ingress fills its table, and a full table drops the packets of everybody
// on the node. The rules are a table of our own in nf_tables, `nft list table inet kerngate`.
//
// What is left out is what the node itself ends: packets to a published address, protocol and
// port, and the answers to them. Connections from the proxy to pods stay tracked, and so do
// those of L4 services, which netfilter sees between client and pod: network policies tell a
// pod's answer from a connection of its own by the tracking, and masquerading needs it.
package notrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the table, of family inet, that is ours: whatever else is in it goes.
const tableName = "kerngate"

// Endpoint is something published: an ingress address, protocol and port.
type Endpoint struct {
	Address  netip.AddrPort
	Protocol uint8 // IP protocol number, TCP or UDP
}

// Table is the table of one network namespace: that of the thread which called Open. Its
// methods are not safe for concurrent use.
type Table struct {
	conn *nftables.Conn
	have map[Endpoint]struct{} // nil: not known to be there as we make it
}

// Open returns a handle to the table, which it neither makes nor changes.
func Open() (*Table, error) {
	// A lasting connection stays in this namespace, whatever thread uses it later.
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open netlink to nf_tables: %w", err)
	}
	return &Table{conn: conn}, nil
}

// Close lets go of the handle. The table stays.
func (t *Table) Close() error { return t.conn.CloseLasting() }

// Probe asks the kernel for everything that the table takes, and leaves nothing.
func (t *Table) Probe() error {
	table := &nftables.Table{Name: tableName + "_probe", Family: nftables.TableFamilyINet}
	// One transaction that ends as it began: nobody ever sees the table.
	if err := t.define(table); err != nil {
		return err
	}
	t.conn.DelTable(table)
	if err := t.conn.Flush(); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("nf_tables (CAP_NET_ADMIN needed): %w", err)
		}
		return fmt.Errorf("nf_tables has no inet tables or no notrack: load the modules nf_tables and nft_ct, or do without --notrack: %w", err)
	}
	return nil
}

// Apply makes the table let these endpoints go untracked and no others, and returns how many
// were added and removed. Each call is one transaction: no packet meets half a change.
func (t *Table) Apply(want []Endpoint) (added, removed int, err error) {
	wanted := make(map[Endpoint]struct{}, len(want))
	for _, e := range want {
		wanted[Endpoint{netip.AddrPortFrom(e.Address.Addr().Unmap(), e.Address.Port()), e.Protocol}] = struct{}{}
	}
	known := t.have
	if known != nil {
		here, err := t.exists()
		if err != nil {
			return 0, 0, err
		}
		if !here { // `nft flush ruleset`, as the service nftables does when it restarts
			known = nil
		}
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	if known == nil {
		// An earlier agent's table may be of another version, so it is made anew.
		t.conn.AddTable(table)
		t.conn.DelTable(table)
		if err := t.define(table); err != nil {
			return 0, 0, err
		}
	}
	more, less := missing(wanted, known), missing(known, wanted)
	if known != nil && len(more)+len(less) == 0 {
		return 0, 0, nil
	}
	t.have = nil // until the kernel has taken it
	for _, six := range []bool{false, true} {
		set := endpointSet(table, six)
		if err := eachChunk(more, six, func(e []nftables.SetElement) error { return t.conn.SetAddElements(set, e) }); err != nil {
			return 0, 0, fmt.Errorf("add to set %s of table inet %s: %w", set.Name, tableName, err)
		}
		if err := eachChunk(less, six, func(e []nftables.SetElement) error { return t.conn.SetDeleteElements(set, e) }); err != nil {
			return 0, 0, fmt.Errorf("remove from set %s of table inet %s: %w", set.Name, tableName, err)
		}
	}
	if err := t.conn.Flush(); err != nil {
		return 0, 0, fmt.Errorf("write table inet %s: %w", tableName, err)
	}
	t.have = wanted
	return len(more), len(less), nil
}

// Restore makes the table again if somebody has removed it, and reports whether.
func (t *Table) Restore() (bool, error) {
	if t.have == nil {
		return false, nil
	}
	here, err := t.exists()
	if here || err != nil {
		return false, err
	}
	want := make([]Endpoint, 0, len(t.have))
	for e := range t.have {
		want = append(want, e)
	}
	_, _, err = t.Apply(want)
	return err == nil, err
}

// Remove takes the table away and reports whether it was there. A kernel without nf_tables
// has none.
func (t *Table) Remove() (bool, error) {
	here, err := t.exists()
	if !here || err != nil {
		return false, err
	}
	t.have = nil
	t.conn.DelTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyINet})
	if err := t.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("remove table inet %s: %w", tableName, err)
	}
	return true, nil
}

func (t *Table) exists() (bool, error) {
	tables, err := t.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	// What the kernel says that has no nf_tables.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list tables of nf_tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// define adds the table, without endpoints, to the transaction.
func (t *Table) define(table *nftables.Table) error {
	t.conn.AddTable(table)
	for _, six := range []bool{false, true} {
		if err := t.conn.AddSet(endpointSet(table, six), nil); err != nil {
			return fmt.Errorf("define table inet %s: %w", table.Name, err)
		}
	}
	for _, hook := range []struct {
		name    string
		hook    *nftables.ChainHook
		answers bool
	}{
		{"prerouting", nftables.ChainHookPrerouting, false},
		{"output", nftables.ChainHookOutput, true},
	} {
		chain := t.conn.AddChain(&nftables.Chain{
			Table: table, Name: hook.name,
			Type: nftables.ChainTypeFilter, Hooknum: hook.hook, Priority: nftables.ChainPriorityRaw,
		})
		for _, six := range []bool{false, true} {
			t.conn.AddRule(rule(table, chain, six, false)) // in output: clients on this node
			if hook.answers {
				t.conn.AddRule(rule(table, chain, six, true))
			}
		}
	}
	return nil
}

// endpointSet describes the set of one family's endpoints: address . protocol . port.
func endpointSet(table *nftables.Table, six bool) *nftables.Set {
	name, address := "endpoints4", nftables.TypeIPAddr
	if six {
		name, address = "endpoints6", nftables.TypeIP6Addr
	}
	return &nftables.Set{
		Table: table, Name: name, Concatenation: true,
		KeyType: nftables.MustConcatSetType(address, nftables.TypeInetProto, nftables.TypeInetService),
	}
}

// rule leaves out packets to endpoints, or answers from them. It counts them, for whoever
// looks.
func rule(table *nftables.Table, chain *nftables.Chain, six, answers bool) *nftables.Rule {
	set := endpointSet(table, six)
	// Where the address lies in its header, and the 32-bit registers behind it.
	family, offset, size, next := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4), uint32(unix.NFT_REG32_01)
	if six {
		family, offset, size, next = unix.NFPROTO_IPV6, 24, 16, unix.NFT_REG32_04
	}
	port := uint32(2)
	if answers {
		offset, port = offset-size, 0
	}
	return &nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{family}},
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set.Name},
		&expr.Counter{},
		&expr.Notrack{},
	}}
}

// key is an endpoint as the set has it: each part begins a 32-bit word; network byte order.
func (e Endpoint) key() []byte {
	key := append(e.Address.Addr().AsSlice(), e.Protocol, 0, 0, 0)
	key = binary.BigEndian.AppendUint16(key, e.Address.Port())
	return append(key, 0, 0)
}

// eachChunk hands on one family's endpoints, no more at once than an attribute of netlink
// holds (64 KiB).
func eachChunk(all []Endpoint, six bool, do func([]nftables.SetElement) error) error {
	var elements []nftables.SetElement
	for _, e := range all {
		if e.Address.Addr().Is6() == six {
			elements = append(elements, nftables.SetElement{Key: e.key()})
		}
	}
	for chunk := range slices.Chunk(elements, 500) {
		if err := do(chunk); err != nil {
			return err
		}
	}
	return nil
}

// missing returns what of a is not in b.
func missing(a, b map[Endpoint]struct{}) (out []Endpoint) {
	for e := range a {
		if _, ok := b[e]; !ok {
			out = append(out, e)
		}
	}
	return out
}
