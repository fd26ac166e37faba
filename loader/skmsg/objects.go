package skmsg

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/datapath"
)

// The layouts of bpf/skmsg.bpf.c, from its BTF.
type (
	joinKey  = skmsgKgJoinKey
	joinPair = skmsgKgJoinPair
	joinEnd  = skmsgKgJoinEnd
)

// maps are all maps of the object, with the types of their keys and values.
type maps struct {
	Sockets  datapath.Map[joinKey, uint64]   `ebpf:"kg_join_sockets"` // value: the socket's cookie, when read
	Pairs    datapath.Map[joinKey, joinPair] `ebpf:"kg_join_pairs"`
	Ends     datapath.Map[int32, joinEnd]    `ebpf:"kg_join_ends"` // key: the descriptor of a socket
	Counters datapath.PerCPU[uint64]         `ebpf:"kg_join_counters"`
}

// programs are all its programs.
type programs struct {
	SockOps *ebpf.Program `ebpf:"kg_sockops"`
	Msg     *ebpf.Program `ebpf:"kg_msg"`
}

// constants are what the programs are told at load.
type constants struct {
	UID   uint32 `ebpf:"kg_join_uid"`
	Netns uint64 `ebpf:"kg_join_netns"` // cookie of the network namespace
}

// objects are the loaded programs and the maps that they use.
type objects struct {
	maps     maps
	programs programs
}

// load loads the programs on new maps.
func load(c constants) (*objects, error) {
	spec, err := loadSkmsg()
	if err != nil {
		return nil, fmt.Errorf("read the compiled programs: %w", err)
	}
	if err := datapath.SetConstants(spec, &c); err != nil {
		return nil, err
	}
	all, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load kg_sockops and kg_msg: %w", err)
	}
	defer all.Close() // what is left are sections of constants, which the programs hold
	o := new(objects)
	if err := datapath.Bind(&o.maps, all.Maps); err != nil {
		return nil, err
	}
	if err := all.Assign(&o.programs); err != nil {
		return nil, err
	}
	for name := range datapath.Opened(&o.maps) {
		delete(all.Maps, name)
	}
	return o, nil
}

// Close closes all descriptors. What is attached stays in force.
func (o *objects) Close() error {
	return errors.Join(datapath.ClosePrograms(&o.programs), datapath.CloseAll(&o.maps))
}
