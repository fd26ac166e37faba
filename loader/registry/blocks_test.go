package registry

import (
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
)

func TestBlocksCoalesce(t *testing.T) {
	b := newBlocks(100)
	var at [4]uint32
	for i := range at {
		var ok bool
		if at[i], ok = b.alloc(25); !ok {
			t.Fatalf("block %d of 25 slots does not fit into 100", i)
		}
	}
	if _, ok := b.alloc(1); ok {
		t.Error("a slot more than there are was given away")
	}
	for _, i := range []int{1, 3, 0, 2} { // with free neighbours on no, one and both sides
		b.free(at[i], 25)
	}
	if len(b.extents) != 1 || b.extents[0] != (extent{0, 100}) {
		t.Errorf("free runs %v, want one of 100", b.extents)
	}
}

func TestBlocksTakeOnlyWhatIsFree(t *testing.T) {
	b := newBlocks(10)
	for _, c := range []struct {
		offset, n uint32
		want      bool
	}{{3, 4, true}, {6, 2, false}, {2, 2, false}, {0, 3, true}, {7, 3, true}, {9, 1, false}, {9, 5, false}} {
		if got := b.take(c.offset, c.n); got != c.want {
			t.Errorf("take %d slots from %d: %v, want %v", c.n, c.offset, got, c.want)
		}
	}
	if b.used() != 10 {
		t.Errorf("%d slots in use, want 10", b.used())
	}
}

func TestBlocksQuarantine(t *testing.T) {
	b := newBlocks(4)
	offset, _ := b.alloc(4)
	now := time.Unix(100, 0)
	b.retire(abi.MakeBlock(offset, 4, 1), now)
	if b.release(now.Add(-1)) != 0 {
		t.Error("released too early")
	}
	if _, ok := b.alloc(1); ok {
		t.Error("a retired block was given away")
	}
	if b.release(now) != 1 {
		t.Error("not released in time")
	}
	if _, ok := b.alloc(4); !ok {
		t.Error("a released block was not given away again")
	}
}

// Compares the allocator with one bool per slot.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{5, 10, 3, 128, 7, 129, 200, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const size = 64
		b := newBlocks(size)
		var taken [size]bool
		var held []extent
		for _, op := range ops {
			if op >= 128 { // free one of those held
				if len(held) == 0 {
					continue
				}
				i := int(op-128) % len(held)
				e := held[i]
				held = append(held[:i], held[i+1:]...)
				b.free(e.offset, e.length)
				for s := e.offset; s < e.offset+e.length; s++ {
					taken[s] = false
				}
			} else if n := uint32(op%16) + 1; true {
				offset, ok := b.alloc(n)
				if ok != fits(taken[:], int(n)) {
					t.Fatalf("alloc %d: %v, but the model says %v", n, ok, !ok)
				}
				if !ok {
					continue
				}
				for s := offset; s < offset+n; s++ {
					if taken[s] {
						t.Fatalf("slot %d was given away twice", s)
					}
					taken[s] = true
				}
				held = append(held, extent{offset, n})
			}
			used := 0
			for _, t := range taken {
				if t {
					used++
				}
			}
			if b.used() != used {
				t.Fatalf("%d slots in use, the model says %d", b.used(), used)
			}
			for i := 1; i < len(b.extents); i++ {
				if b.extents[i-1].offset+b.extents[i-1].length >= b.extents[i].offset {
					t.Fatalf("free runs out of order or not joined: %v", b.extents)
				}
			}
		}
	})
}

// fits reports whether n slots in a row are free.
func fits(taken []bool, n int) bool {
	run := 0
	for _, t := range taken {
		if run++; t {
			run = 0
		}
		if run >= n {
			return true
		}
	}
	return false
}
