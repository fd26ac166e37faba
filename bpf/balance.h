/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend of a service gets a new flow. */
#ifndef KG_BALANCE_H
#define KG_BALANCE_H

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

/*
 * backend_at returns the backend in the slot that a hash falls on, or NULL if there is
 * none, and its id. The word of the block is read once and not again: a program ends long
 * before the block's quarantine does, so what a stale word leads to is still whole.
 */
static __always_inline struct kg_backend *backend_at(const struct kg_service *service, __u32 hash,
						     kg_backend_id *id)
{
	__u64 block = *(volatile __u64 *)&service->block;
	__u32 count = block >> 32 & 0xffff;
	__u32 index = (__u32)block + (__u32)((__u64)hash * count >> 32);
	struct kg_backend *backend;
	struct kg_slot *slot;

	if (!count)
		return NULL;
	slot = bpf_map_lookup_elem(&kg_slots, &index);
	if (!slot)
		return NULL;
	*id = slot->backend;
	backend = bpf_map_lookup_elem(&kg_backends, id);
	if (!backend || backend->generation != slot->generation)
		return NULL;
	return backend;
}

/* is_current reports whether a backend that was chosen earlier is still one. */
static __always_inline bool is_current(kg_backend_id id, __u32 generation)
{
	struct kg_backend *backend = bpf_map_lookup_elem(&kg_backends, &id);

	return backend && backend->flags & KG_BACKEND_IN_USE && backend->generation == generation;
}

#endif
