package registry

import (
	"fmt"
	"unsafe"

	"github.com/kerngate/kerngate/loader/abi"
)

// FullError says that an object found no place in a map. Everything else stands.
type FullError struct {
	Map  string
	Flag string // that sets the map's size; "" if nothing does
	Size int
}

func (e *FullError) Error() string {
	text := fmt.Sprintf("map %s is full (%d entries)", e.Map, e.Size)
	if e.Flag != "" {
		text += fmt.Sprintf(": raise %s; maps that exist keep their size until `kerngate-agent --uninstall`", e.Flag)
	}
	return text
}

func writeService(id uint32, s abi.Service) abi.Write {
	w := abi.Write{Table: abi.TableServices, Index: id}
	*(*abi.Service)(unsafe.Pointer(&w.Words)) = s
	return w
}

func writeBackend(id uint32, b abi.Backend) abi.Write {
	w := abi.Write{Table: abi.TableBackends, Index: id}
	*(*abi.Backend)(unsafe.Pointer(&w.Words)) = b
	return w
}

// writeSlots returns the writes that fill slots from offset on.
func writeSlots(offset uint32, slots []abi.Slot) []abi.Write {
	writes := make([]abi.Write, 0, (len(slots)+abi.WriteWords-1)/abi.WriteWords)
	for len(slots) > 0 {
		n := min(len(slots), abi.WriteWords)
		w := abi.Write{Table: abi.TableSlots, Index: offset, Count: uint32(n)}
		copy((*[abi.WriteWords]abi.Slot)(unsafe.Pointer(&w.Words))[:], slots[:n])
		writes = append(writes, w)
		slots = slots[n:]
		offset += uint32(n)
	}
	return writes
}
