/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kg_publish writes the sealed maps on behalf of the agent, which runs it with
 * BPF_PROG_RUN and a list of writes.
 *
 * Readers see the writes of one run before those of the next: dropping the program's
 * reference at the end of a run is a full memory barrier (atomic_dec_and_test). Within
 * a run they may appear in any order. So the agent runs it twice: backends and slots
 * first, then the one word of the service that leads to them.
 */

/* store writes the value word by word; each is one aligned 8-byte store. */
static __always_inline void store(void *value, const struct kg_write *w, __u32 words)
{
	volatile __u64 *to = value;

	/* Last word first, so that a service's flags stand before its block. */
	for (__u32 i = words; i > 0; i--)
		to[i - 1] = w->words[i - 1];
}

static __always_inline int write_slots(const struct kg_write *w)
{
	for (__u32 i = 0; i < KG_WRITE_WORDS; i++) {
		__u32 index = w->index + i;
		volatile __u64 *slot;

		if (i >= w->count)
			break;
		slot = bpf_map_lookup_elem(&kg_slots, &index);
		if (!slot)
			return -1;
		*slot = w->words[i];
	}
	return 0;
}

static __always_inline int write_entry(const struct kg_write *w)
{
	void *value = NULL;

	switch (w->table) {
	case KG_TABLE_SERVICES:
		value = bpf_map_lookup_elem(&kg_services, &w->index);
		if (value)
			store(value, w, sizeof(struct kg_service) / sizeof(__u64));
		break;
	case KG_TABLE_BACKENDS:
		value = bpf_map_lookup_elem(&kg_backends, &w->index);
		if (value)
			store(value, w, sizeof(struct kg_backend) / sizeof(__u64));
		break;
	case KG_TABLE_GENERATIONS:
		value = bpf_map_lookup_elem(&kg_generations, &w->index);
		if (value)
			store(value, w, sizeof(struct kg_generation) / sizeof(__u64));
		break;
	case KG_TABLE_META:
		value = bpf_map_lookup_elem(&kg_meta, &w->index);
		if (value)
			store(value, w, sizeof(struct kg_meta) / sizeof(__u64));
		break;
	case KG_TABLE_SLOTS:
		return write_slots(w);
	}
	return value ? 0 : -1;
}

/* Returns 0 if all writes were done. If not, args->count says how many were; an index
 * beyond its map or an unreadable list ends the run. */
SEC("syscall")
int kg_publish(struct kg_write_list *args)
{
	__u64 list = args->list;
	__u32 count = args->count;
	__u32 done = 0;

	for (__u32 i = 0; i < KG_WRITES; i++) {
		struct kg_write w;

		if (i >= count)
			break;
		if (bpf_copy_from_user(&w, sizeof(w), (void *)(list + i * sizeof(w))))
			break;
		if (write_entry(&w))
			break;
		done++;
	}
	args->count = done;
	return done == count ? 0 : 1;
}
