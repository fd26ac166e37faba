/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Limits of what one source may send to the ingress addresses: packets and new connections
 * per second, each with a burst. A source is a prefix of the length that kg_defence says.
 *
 * Buckets are not kept per source, for a flood from random ones would need as many. A source
 * has two cells of kg_rate, one in either half, by two hashes of it with a secret. Others
 * count in the same cells; the emptier of the two is believed, so a source suffers from others
 * only if both of its cells are shared with sources that send too much. With n cells in a half
 * and m such sources that is a chance of (m/n)^2.
 *
 * A cell is one time per limit (the virtual scheduling form of a token bucket): when what
 * has been let through will have been paid off. Each packet moves it by the time that one
 * packet has at the limit's rate; what would move it further ahead than the burst is
 * dropped. An idle cell needs no care: its time passes.
 *
 * CPUs do not wait for each other. Two that see a cell at the same moment may both store
 * what they found plus one packet, and one packet is then not counted; so of k CPUs that hit
 * one cell all the time, at most k times the rate gets through. A flow is on one CPU as a rule.
 */
#ifndef KG_RATE_H
#define KG_RATE_H

#include "clock.h"
#include "config.h"
#include "maps.h"
#include "net.h"

/* How far the clocks of two CPUs are apart at most, ns: see now_ns. */
#define KG_CLOCKS_APART 20000000

enum limited {
	LIMIT_PACKETS,
	LIMIT_CONNECTIONS,
};

static __always_inline struct kg_defence *defence(void)
{
	__u32 index = 0;

	return bpf_map_lookup_elem(&kg_defence, &index);
}

/* hash_source returns two hashes in one word. The multiplications spread a word's bits
 * upwards, the shifts back. */
static __always_inline __u64 hash_source(__u64 high, __u64 low)
{
	__u64 hash = (high ^ kg_secret) * 0x9e3779b97f4a7c15;

	hash = (hash ^ hash >> 32 ^ low) * 0xd6e8feb86659fd93;
	hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93;
	return hash ^ hash >> 32;
}

/* cell_of returns the time in a source's cell in one half, by a hash of 32 bits. */
static __always_inline __u64 *cell_of(__u32 half, __u32 hash, enum limited what)
{
	__u32 size = kg_rate_size / 2;
	__u32 index = half * size + (__u32)((__u64)hash * size >> 32);
	struct kg_rate *cell = bpf_map_lookup_elem(&kg_rate, &index);

	if (!cell)
		return NULL;
	return what == LIMIT_PACKETS ? &cell->packets_ns : &cell->connections_ns;
}

/* is_excepted reports whether kg_allow holds a source. */
static __always_inline bool is_excepted(const struct kg_address *source)
{
	struct kg_prefix key = {.prefix_len = 128, .address = *source};

	return bpf_map_lookup_elem(&kg_allow, &key);
}

/*
 * spend counts a packet or a connection of a source, and reports whether it is one too
 * many. What is dropped is not counted, so a source that goes on gets its rate through. Not
 * static, so that it has a stack of its own.
 */
__noinline int spend(const struct kg_address *source, int is_v6, enum limited what)
{
	struct kg_defence *d = defence();
	const struct kg_address *mask;
	__u64 now, first, second, spent, each, burst, most, *one, *two, address[2], masks[2], hash;

	if (!d || !source)
		return 0;
	each = what == LIMIT_PACKETS ? d->packet_ns : d->connection_ns;
	burst = what == LIMIT_PACKETS ? d->packet_burst_ns : d->connection_burst_ns;
	if (!each)
		return 0;
	mask = is_v6 ? &d->mask_v6 : &d->mask_v4;
	__builtin_memcpy(address, source, sizeof(address));
	__builtin_memcpy(masks, mask, sizeof(masks));
	hash = hash_source(address[0] & masks[0], address[1] & masks[1]);
	one = cell_of(0, hash, what);
	two = cell_of(1, hash >> 32, what);
	if (!one || !two)
		return 0;
	now = now_ns();
	first = *(volatile __u64 *)one;
	second = *(volatile __u64 *)two;
	spent = first < second ? first : second;
	/* Further ahead than these limits allow: the cell is from before they changed. */
	most = burst + each + KG_CLOCKS_APART;
	if (spent < now || spent - now > most)
		spent = now;
	if (spent - now > burst)
		return !is_excepted(source);
	spent += each;
	if (first < spent || first - now > most)
		*(volatile __u64 *)one = spent;
	if (second < spent || second - now > most)
		*(volatile __u64 *)two = spent;
	return 0;
}

#endif
