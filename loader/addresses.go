package loader

import (
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/sieve"
)

// addressSlots mirrors kg_address_slots, which spares packets the look into kg_addresses.
type addressSlots struct {
	table datapath.Map[uint32, abi.AddressSlot]
	have  []abi.AddressSlot
}

func openAddressSlots(m datapath.Map[uint32, abi.AddressSlot]) (*addressSlots, error) {
	s := &addressSlots{table: m, have: make([]abi.AddressSlot, abi.AddressSlots)}
	for i := range s.have {
		var err error
		if s.have[i], err = m.Get(uint32(i)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// update makes the slots say what kg_addresses holds.
func (s *addressSlots) update(addresses map[abi.Address]abi.AddressInfo) error {
	for i, want := range placed(addresses) {
		slot := &s.have[i]
		if *slot == want {
			continue
		}
		// While a slot changes, programs ask kg_addresses: writing it is no single step.
		between := want
		between.Place = abi.PlaceSeveral
		slot.Place = abi.PlaceSeveral
		for _, step := range []abi.AddressSlot{*slot, between, want} {
			if err := s.table.Put(uint32(i), step); err != nil {
				return err
			}
			*slot = step
		}
	}
	return nil
}

// placed returns what the slots are to hold.
func placed(addresses map[abi.Address]abi.AddressInfo) []abi.AddressSlot {
	slots := make([]abi.AddressSlot, abi.AddressSlots)
	for address, info := range addresses {
		slot := &slots[sieve.AddressSlot(address)]
		if slot.Place != abi.PlaceEmpty {
			*slot = abi.AddressSlot{Place: abi.PlaceSeveral}
			continue
		}
		*slot = abi.AddressSlot{Address: address, Info: info, Place: abi.PlaceOne}
	}
	return slots
}
