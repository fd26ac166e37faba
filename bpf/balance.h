/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend of a service gets a new flow. */
#ifndef KG_BALANCE_H
#define KG_BALANCE_H

#include "config.h"
#include "maps.h"

/* mix adds a word to a hash (MurmurHash3). */
static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	word *= 0xcc9e2d51;
	word = (word << 15) | (word >> 17);
	hash ^= word * 0x1b873593;
	hash = (hash << 13) | (hash >> 19);
	return hash * 5 + 0xe6546b64;
}

/* hash_flow is the same on every node, so that they agree about a connection's backend
 * without talking. With affinity all of a client's connections have one hash. */
static __always_inline __u32 hash_flow(const struct kg_flow_key *key, bool affinity)
{
	__u32 source[4], hash = 0;

	__builtin_memcpy(source, &key->source, sizeof(source));
	for (int i = 0; i < 4; i++)
		hash = mix(hash, source[i]);
	if (!affinity) {
		hash = mix(hash, (__u32)key->source_port << 16 | key->destination_port);
		hash = mix(hash, key->protocol);
	}
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

/* Slots that are looked at for a backend that the proxies find usable. */
#define KG_PROBES 4

/* is_usable reports whether the proxies that serve have nothing against a backend. What they
 * say of an earlier holder of its id does not count. */
static __always_inline bool is_usable(kg_backend_id id, const struct kg_backend *backend)
{
	__u32 index = 0;
	struct kg_meta *meta = bpf_map_lookup_elem(&kg_meta, &index);
	struct kg_backend_load *load;

	if (!meta || !meta->serving)
		return true;
	index = meta->serving % KG_GENERATIONS * kg_backends_size + id;
	load = bpf_map_lookup_elem(&kg_backend_load, &index);
	return !load || load->generation != backend->generation ||
	       !*(volatile __u32 *)&load->health;
}

/*
 * choose_backend returns the backend in the slot that a hash falls on, or 0 if there is none.
 * One that is not usable is passed over for those in a few other slots (not in the next ones:
 * in a table of few backends these are often its own). If none of them is usable either, the
 * first has it, for a guess beats a refusal. Not static, so that it is verified once.
 *
 * The word of the block is read once and not again: a program ends long before the block's
 * quarantine does, so what a stale word leads to is still whole.
 */
__noinline __u32 choose_backend(kg_service_id id, __u32 hash)
{
	struct kg_service *service = bpf_map_lookup_elem(&kg_services, &id);
	kg_backend_id first = 0;
	__u32 count;
	__u64 block;

	if (!service)
		return 0;
	block = *(volatile __u64 *)&service->block;
	count = block >> 32 & 0xffff;
	for (__u32 i = 0; i < KG_PROBES && count; i++) {
		__u32 index = (__u32)block + (__u32)((__u64)hash * count >> 32);
		struct kg_slot *slot = bpf_map_lookup_elem(&kg_slots, &index);
		struct kg_backend *backend;
		kg_backend_id at;

		if (!slot)
			break;
		at = slot->backend;
		backend = bpf_map_lookup_elem(&kg_backends, &at);
		if (backend && backend->generation == slot->generation) {
			if (is_usable(at, backend))
				return at;
			if (!first)
				first = at;
		}
		hash = mix(hash, 0x9e3779b9 + i);
	}
	return first;
}

/* is_current reports whether a backend that was chosen earlier is still one. */
static __always_inline bool is_current(kg_backend_id id, __u32 generation)
{
	struct kg_backend *backend = bpf_map_lookup_elem(&kg_backends, &id);

	return backend && backend->flags & KG_BACKEND_IN_USE && backend->generation == generation;
}

#endif
