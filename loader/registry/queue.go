package registry

// queue hands out ids, the longest unused first: an id that was just given up should not
// come back soon under another meaning.
type queue struct{ ids []uint32 }

func (q *queue) push(id uint32) { q.ids = append(q.ids, id) }

func (q *queue) pop() (uint32, bool) {
	if len(q.ids) == 0 {
		return 0, false
	}
	id := q.ids[0]
	q.ids = q.ids[1:]
	return id, true
}

// unpop puts an id back in front, as it was never used.
func (q *queue) unpop(id uint32) { q.ids = append([]uint32{id}, q.ids...) }

func (q *queue) len() int { return len(q.ids) }
