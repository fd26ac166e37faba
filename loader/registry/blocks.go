package registry

import (
	"slices"
	"sort"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
)

// blocks knows which runs of kg_slots are free.
type blocks struct {
	size    uint32
	extents []extent // free, sorted by offset, never adjacent
	retired []retired
}

type extent struct{ offset, length uint32 }

type retired struct {
	extent
	at time.Time
}

func newBlocks(size uint32) blocks {
	return blocks{size: size, extents: []extent{{0, size}}}
}

// alloc takes n slots from the smallest free run that has them.
func (b *blocks) alloc(n uint32) (offset uint32, ok bool) {
	best := -1
	for i, e := range b.extents {
		if e.length >= n && (best < 0 || e.length < b.extents[best].length) {
			best = i
		}
	}
	if best < 0 {
		return 0, false
	}
	offset = b.extents[best].offset
	b.cut(best, offset, n)
	return offset, true
}

// take takes exactly these slots and reports whether they were free.
func (b *blocks) take(offset, n uint32) bool {
	i := b.after(offset+1) - 1
	if i < 0 || b.extents[i].offset+b.extents[i].length < offset+n {
		return false
	}
	b.cut(i, offset, n)
	return true
}

// cut removes [offset, offset+n) from the i-th free run, which contains it.
func (b *blocks) cut(i int, offset, n uint32) {
	e := b.extents[i]
	var rest []extent
	if offset > e.offset {
		rest = append(rest, extent{e.offset, offset - e.offset})
	}
	if end := e.offset + e.length; offset+n < end {
		rest = append(rest, extent{offset + n, end - offset - n})
	}
	b.extents = slices.Replace(b.extents, i, i+1, rest...)
}

// free gives slots back and joins them with their free neighbours.
func (b *blocks) free(offset, n uint32) {
	i := b.after(offset)
	e := extent{offset, n}
	from, to := i, i
	if i > 0 && b.extents[i-1].offset+b.extents[i-1].length == offset {
		from--
		e.offset = b.extents[from].offset
		e.length += b.extents[from].length
	}
	if i < len(b.extents) && offset+n == b.extents[i].offset {
		e.length += b.extents[i].length
		to++
	}
	b.extents = slices.Replace(b.extents, from, to, e)
}

// after returns the index of the first free run at offset or behind it.
func (b *blocks) after(offset uint32) int {
	return sort.Search(len(b.extents), func(i int) bool { return b.extents[i].offset >= offset })
}

// retire sets a block aside that readers may still be in.
func (b *blocks) retire(block abi.Block, now time.Time) {
	if block.Count() > 0 {
		b.retired = append(b.retired, retired{extent{block.Offset(), uint32(block.Count())}, now})
	}
}

// release frees the blocks that were retired at limit or before.
func (b *blocks) release(limit time.Time) (freed int) {
	for freed < len(b.retired) && !b.retired[freed].at.After(limit) {
		b.free(b.retired[freed].offset, b.retired[freed].length)
		freed++
	}
	b.retired = slices.Delete(b.retired, 0, freed)
	return freed
}

// used returns the number of slots that are not free.
func (b *blocks) used() int {
	n := b.size
	for _, e := range b.extents {
		n -= e.length
	}
	return int(n)
}
