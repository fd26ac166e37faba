/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What nearly every packet is asked, in a few memory reads: is it for an ingress address, and
 * is its source denied? The tables read here hold nothing of their own (loader/sieve, and
 * loader/addresses.go compute them); where they do not know, they say so.
 */
#ifndef KG_SIEVE_H
#define KG_SIEVE_H

#include "config.h"
#include "maps.h"
#include "packet.h"

/* 2^64 divided by the golden ratio: its product has well-mixed upper bits. */
#define KG_GOLDEN 0x9e3779b97f4a7c15ull

/* address_slot returns where an address belongs in kg_address_slots, by its two halves as
 * they lie in memory. */
static __always_inline __u32 address_slot(__u64 first, __u64 second)
{
	return (first * KG_GOLDEN ^ second) * KG_GOLDEN >> 54;
}
_Static_assert(KG_ADDRESS_SLOTS == 1 << (64 - 54), "address_slot has ten bits");

/* What find_place found. */
enum whose {
	NOBODYS,
	OURS,
	ANYBODYS, /* kg_addresses knows */
};

/* find_place says whose an address is; if OURS, *slot has what there is to know of it. */
static __always_inline enum whose find_place(__u64 first, __u64 second,
					     struct kg_address_slot **slot)
{
	__u32 index = address_slot(first, second);
	struct kg_address_slot *s = bpf_map_lookup_elem(&kg_address_slots, &index);
	__u32 *words;

	if (!s)
		return ANYBODYS;
	*slot = s;
	if (s->place != KG_PLACE_ONE)
		return s->place == KG_PLACE_EMPTY ? NOBODYS : ANYBODYS;
	words = (__u32 *)&s->address;
	if ((words[0] | (__u64)words[1] << 32) != first ||
	    (words[2] | (__u64)words[3] << 32) != second)
		return NOBODYS;
	return OURS;
}

/* The halves of an IPv4 address as the maps hold it, as they lie in memory. */
#define KG_V4_FIRST 0ull
#define KG_V4_SECOND(v4) (0xffff0000ull | (__u64)(v4) << 32)

/* find_address returns what there is to know of an ingress address; NULL: it is none. */
static __always_inline struct kg_address_info *find_address(const struct kg_address *address)
{
	const __u32 *words = (const __u32 *)address;
	struct kg_address_slot *slot;

	switch (find_place(words[0] | (__u64)words[1] << 32, words[2] | (__u64)words[3] << 32,
			   &slot)) {
	case NOBODYS:
		return NULL;
	case OURS:
		return &slot->info;
	default:
		return bpf_map_lookup_elem(&kg_addresses, address);
	}
}

/* sieve_v4 takes the address in network byte order. */
static __always_inline enum kg_sieved sieve_v4(__be32 source)
{
	__u32 network = bpf_ntohl(source) >> 8, index = network >> 5;
	__u64 *word = bpf_map_lookup_elem(&kg_sieve_v4, &index);

	return word ? *word >> (network & 31) * 2 & 3 : KG_SIEVED_ASK;
}

/* sieve_slot returns where a prefix (its first 64 bits, host byte order, the rest zero)
 * belongs in kg_sieve_v6. */
static __always_inline __u32 sieve_slot(__u64 prefix, __u32 bits)
{
	return (prefix ^ bits) * KG_GOLDEN >> 46;
}
_Static_assert(KG_SIEVE_SLOTS == 1 << (64 - 46), "sieve_slot has 18 bits");

static __always_inline enum kg_sieved sieve_length(__u64 half, __u32 bits)
{
	__u64 prefix = half >> (64 - bits) << (64 - bits);
	__u32 index = sieve_slot(prefix, bits);
	struct kg_sieve_slot *slot = bpf_map_lookup_elem(&kg_sieve_v6, &index);
	__u64 state;

	if (!slot)
		return KG_SIEVED_ASK;
	state = slot->state;
	if (!(__u32)state)
		return state >> 32;
	return (__u32)state == bits && slot->prefix == prefix ? state >> 32 : KG_SIEVED_PASSES;
}

/* sieve_v6 takes the address's first 64 bits, host byte order. */
static __always_inline enum kg_sieved sieve_v6(__u64 half)
{
	__u32 last = KG_SIEVE_SLOTS;
	struct kg_sieve_slot *lengths = bpf_map_lookup_elem(&kg_sieve_v6, &last);
	enum kg_sieved sieved = KG_SIEVED_PASSES;

	/* IPv4 addresses in IPv6 ones, which are in other entries, begin with zeroes. */
	if (!lengths || !half)
		return KG_SIEVED_ASK;
	for (__u32 i = 0; i < 4; i++) {
		enum kg_sieved found;

		if (!(lengths->prefix >> i & 1))
			continue;
		found = sieve_length(half, 16 * (i + 1));
		if (found == KG_SIEVED_DENIED)
			return found;
		if (found > sieved)
			sieved = found;
	}
	return sieved;
}

/* host_bucket returns where an address belongs in kg_sieve_hosts. */
static __always_inline __u32 host_bucket(__u64 first, __u64 second)
{
	return (first * KG_GOLDEN ^ second) * KG_GOLDEN >> 48;
}
_Static_assert(KG_SIEVE_BUCKETS == 1 << (64 - 48), "host_bucket has 16 bits");

/* sieve_host takes the halves of an address of a network that is SIEVED_HOSTS. */
static __always_inline enum kg_sieved sieve_host(__u64 first, __u64 second)
{
	__u32 index = host_bucket(first, second);
	struct kg_sieve_bucket *bucket = bpf_map_lookup_elem(&kg_sieve_hosts, &index);

	if (!bucket)
		return KG_SIEVED_ASK;
	if (!second)
		return KG_SIEVED_PASSES;
	for (__u32 i = 0; i < KG_SIEVE_HOSTS; i++) {
		/* In this order, in which they are not written. */
		if (*(volatile __u64 *)&bucket->hosts[i].second == second &&
		    bucket->hosts[i].first == first)
			return KG_SIEVED_DENIED;
	}
	return KG_SIEVED_PASSES;
}

/* sieve_source takes a source's halves, as they lie in memory; IPv4's as in the maps. */
static __always_inline enum kg_sieved sieve_source(bool v6, __u64 first, __u64 second)
{
	enum kg_sieved sieved = v6 ? sieve_v6(bpf_be64_to_cpu(first)) : sieve_v4(second >> 32);

	return sieved == KG_SIEVED_HOSTS ? sieve_host(first, second) : sieved;
}

/* What the lists say about a source. */
enum listed {
	UNLISTED,
	LISTED,   /* kg_deny holds it */
	EXCEPTED, /* and kg_allow does, too */
};

/* find_listed looks a source up. Not static, so that the verifier walks through it once, and
 * not through all that follows for each way out. */
__noinline enum listed find_listed(const struct kg_address *source, __u32 v6)
{
	struct kg_prefix key = {.prefix_len = 128};
	const __u32 *words = (const __u32 *)source;
	enum kg_sieved sieved;

	if (!source)
		return UNLISTED;
	sieved = sieve_source(v6, words[0] | (__u64)words[1] << 32,
			      words[2] | (__u64)words[3] << 32);
	if (sieved != KG_SIEVED_ASK)
		return sieved == KG_SIEVED_DENIED ? LISTED : UNLISTED;
	key.address = *source;
	if (!bpf_map_lookup_elem(&kg_deny, &key))
		return UNLISTED;
	return bpf_map_lookup_elem(&kg_allow, &key) ? EXCEPTED : LISTED;
}

/* What glance saw. */
enum glance {
	GLANCE_UNSURE, /* look closely */
	GLANCE_NOT_OURS,
	GLANCE_DENIED,
	GLANCE_OURS, /* to an ingress address; the source is not denied, and the headers are located */
};

/*
 * glance judges a packet by its addresses if its headers are plain, as nearly all are. h then
 * says where they are. Nothing is called on the way: see locate_plain.
 */
static __always_inline enum glance glance(void *data, void *end, struct headers *h)
{
	struct iphdr *v4 = data + ETH_HLEN;
	struct ipv6hdr *v6 = data + ETH_HLEN;
	struct kg_address_slot *slot;
	enum kg_sieved sieved;
	enum whose whose;

	if (!locate_plain(data, end, h))
		return GLANCE_UNSURE;
	if (h->flags & HEADERS_V6) {
		__u32 *to = (__u32 *)&v6->daddr;

		whose = find_place(to[0] | (__u64)to[1] << 32, to[2] | (__u64)to[3] << 32, &slot);
	} else {
		whose = find_place(KG_V4_FIRST, KG_V4_SECOND(v4->daddr), &slot);
	}
	if (whose == NOBODYS && !(kg_tunnel_port && h->protocol == IPPROTO_UDP))
		return GLANCE_NOT_OURS; /* nor another node's */
	if (whose != OURS)
		return GLANCE_UNSURE;
	if (h->flags & HEADERS_V6) {
		__u32 *from = (__u32 *)&v6->saddr;

		if ((void *)(v6 + 1) > end) /* as is known, but not to the verifier here */
			return GLANCE_UNSURE;
		sieved = sieve_source(true, from[0] | (__u64)from[1] << 32,
				      from[2] | (__u64)from[3] << 32);
	} else {
		sieved = sieve_source(false, KG_V4_FIRST, KG_V4_SECOND(v4->saddr));
	}
	if (sieved == KG_SIEVED_ASK)
		return GLANCE_UNSURE;
	if (sieved == KG_SIEVED_DENIED)
		return GLANCE_DENIED;
	h->flags |= HEADERS_SIEVED;
	return GLANCE_OURS;
}

#endif
